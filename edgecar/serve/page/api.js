// Requests to the server of this page.

const PATIENCE_MS = 10000;

let askForToken; // shows a form; resolves once the server accepted a token
let asking = null; // without a token many requests fail at once; one form is enough

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function whenTokenIsNeeded(ask) {
  askForToken = ask;
}

export function cameraPath(name, rest = "") {
  return `/api/cameras/${encodeURIComponent(name)}${rest}`;
}

async function send(method, path, body) {
  const headers = { "Content-Type": "application/json" };
  const more = body === undefined ? {} : { headers, body: JSON.stringify(body) };
  const response = await fetch(path, { method, ...more, signal: AbortSignal.timeout(PATIENCE_MS), cache: "no-store" });
  if (response.ok) return response;
  const value = await response.json().catch(() => null);
  const detail = typeof value?.detail === "string" ? value.detail : null;
  throw new ApiError(response.status, detail ?? `${response.status} ${response.statusText}`.trim());
}

// If the server needs a token, wait for one and ask again.
async function respond(method, path, body) {
  for (;;) {
    try {
      return await send(method, path, body);
    } catch (error) {
      if (error.status !== 401) throw error;
      asking ??= askForToken().finally(() => {
        asking = null;
      });
      await asking;
    }
  }
}

export async function ask(method, path, body) {
  const response = await respond(method, path, body);
  return response.status === 204 ? null : response.json();
}

// Return a picture and its number, or null if there is none newer.
export async function askForPicture(path) {
  const response = await respond("GET", path);
  if (response.status === 204) return null;
  return { blob: await response.blob(), sequence: Number(response.headers.get("X-Sequence")) };
}

// The server answers with a cookie that scripts cannot read. The token itself is not kept.
export function sendToken(token) {
  return send("POST", "/api/login", { token });
}

// Return an error in one line for the person who acted.
export function reason(error) {
  return error instanceof ApiError ? error.message : "server not reachable: try again";
}
