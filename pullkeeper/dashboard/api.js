"use strict";
// Calls to the app's other routes, with the key if there is one, and their failures.

const KEY = "pullkeeper.key";
const PATIENCE = 60_000;

/** A call that failed. document: of the app (RFC 9457), or as much of one as is known. */
class Problem extends Error {
  constructor(status, document) {
    super(document.detail);
    Object.assign(this, { status, ...document });
  }

  /** What is shown of it. */
  get shown() {
    const { title, category, detail, remedy, type } = this;
    return { title, category, detail, remedy, runbook: type };
  }
}

/** Take the key from the page's address (`?code=`, or `#code=`, which no server sees), and remove it there. */
function takeKeyFromAddress() {
  const address = new URL(location.href);
  const fragment = new URLSearchParams(address.hash.slice(1));
  const key = fragment.get("code") ?? address.searchParams.get("code");
  if (key === null) return;
  if (key) keepKey(key);
  address.searchParams.delete("code");
  if (fragment.has("code")) address.hash = "";
  history.replaceState(null, "", address);
}

const keepKey = (key) => sessionStorage.setItem(KEY, key);
const forgetKey = () => sessionStorage.removeItem(KEY);
const hasKey = () => sessionStorage.getItem(KEY) !== null;

let clockAhead = 0;

/** The app's time: the clock of the machine that shows this page may be wrong. */
const serverNow = () => Date.now() + clockAhead;

/** Call a route and return its JSON. Throws Problem. Where callers sign in with Entra, the browser sends its cookie. */
async function call(method, path, body) {
  const headers = { Accept: "application/json" };
  if (hasKey()) headers["x-functions-key"] = sessionStorage.getItem(KEY);
  const options = { method, headers, cache: "no-store", redirect: "manual", signal: AbortSignal.timeout(PATIENCE) };
  if (body !== undefined) options.body = JSON.stringify(body);
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    throw new Problem(0, unreached(error));
  }
  // A redirect leads to Entra, where the policy of this page lets no call go.
  if (response.type === "opaqueredirect") throw new Problem(401, { title: "", detail: "" });
  const date = Date.parse(response.headers.get("Date"));
  if (Math.abs(date - serverNow()) > 2000) clockAhead = date - Date.now();
  const document = await response.json().catch(() => null);
  if (!response.ok) throw new Problem(response.status, document?.detail ? document : refused(response.status));
  return document;
}

function unreached(error) {
  const detail = error.name === "TimeoutError" ? `No response within ${PATIENCE / 1000} s.` : "The connection failed.";
  return {
    title: "The app does not respond",
    detail,
    remedy: "See whether it runs: az functionapp show --ids <function app id> --query state",
  };
}

/** A refusal without a document comes from the platform, not from the app. */
function refused(status) {
  if (status === 401) return { title: hasKey() ? "The app refuses this key" : "", detail: "" };
  return {
    title: "The platform refused the call",
    detail: `The response has status ${status} and says no more.`,
    remedy: "See what the app logs: az functionapp log tail, or Application Insights",
  };
}
