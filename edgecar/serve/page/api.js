// Requests to the server of this page.

const PATIENCE_MS = 10000;

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

let askForToken = () => Promise.reject(new ApiError(401, "this server asks for a token"));
let asking = null;

// `ask` shows a form and resolves once the server accepted a token.
export function whenTokenIsNeeded(ask) {
  askForToken = ask;
}

// Without a token many requests fail at once; one form is enough.
function login() {
  asking ??= askForToken().finally(() => {
    asking = null;
  });
  return asking;
}

// The server answers with a cookie that scripts cannot read. The token itself is not kept.
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

// Return the server's answer. If it needs a token, wait for one and ask again.
export async function ask(method, path, body) {
  for (;;) {
    const response = await send(method, path, body);
    if (response.status !== 401) return answer(response);
    await login();
  }
}

// Return a picture and its number, or null if there is none newer. Other requests wait for a token.
export async function askForPicture(path, signal) {
  const response = await send("GET", path, undefined, signal);
  if (response.status === 401) login();
  if (response.status !== 200) return answer(response);
  const sequence = Number(response.headers.get("X-Sequence"));
  return { blob: await response.blob(), sequence };
}

// Return an error in one line for the person who acted.
export function reason(error) {
  return error instanceof ApiError ? error.message : "server not reachable: try again";
}
