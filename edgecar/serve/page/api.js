// Requests to the server this page came from.

const PATIENCE_MS = 10000;

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let askForToken = () => Promise.reject(new ApiError(401, "this server asks for a token"));
let asking = null;

// `ask` shows a form and resolves once the server took a token.
export function whenTokenIsNeeded(ask) {
  askForToken = ask;
}

// Many requests fail at once where a token is missing; one form is enough.
function login() {
  asking ??= askForToken().finally(() => {
    asking = null;
  });
  return asking;
}

// The server sets a cookie that scripts cannot read; the token itself is kept nowhere.
export async function sendToken(token) {
  await answer(await send("POST", "/api/login", { token }));
}

export function cameraPath(name, rest = "") {
  return `/api/cameras/${encodeURIComponent(name)}${rest}`;
}

async function send(method, path, body, signal = AbortSignal.timeout(PATIENCE_MS)) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  const text = body === undefined ? undefined : JSON.stringify(body);
  return fetch(path, { method, headers, body: text, signal, cache: "no-store" });
}

async function answer(response) {
  if (response.status === 204) return null;
  const value = await response.json().catch(() => null);
  if (response.ok) return value;
  const detail = typeof value?.detail === "string" ? value.detail : null;
  throw new ApiError(response.status, detail ?? `${response.status} ${response.statusText}`.trim());
}

// What the server answers; waits for a token where it asks for one, and then asks again.
export async function ask(method, path, body) {
  for (;;) {
    const response = await send(method, path, body);
    if (response.status !== 401) return answer(response);
    await login();
  }
}

// A picture and its number, or null where there is none newer. It does not wait for a token: other
// requests do.
export async function askForPicture(path, signal) {
  const response = await send("GET", path, undefined, signal);
  if (response.status === 401) login();
  if (response.status !== 200) return answer(response);
  const sequence = Number(response.headers.get("X-Sequence"));
  return { blob: await response.blob(), sequence };
}

// One line for a person who acted.
export function reason(error) {
  return error instanceof ApiError ? error.message : "server not reachable: try again";
}
