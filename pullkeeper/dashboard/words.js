"use strict";
// How times, counts and states are written.

/** What a state means. The first needs attention first. tone: its colour. */
const STATES = {
  expired: { tone: "bad", meaning: "the token in the secret has expired" },
  pending: { tone: "info", meaning: "never written" },
  stale: { tone: "warn", meaning: "still valid, but the last refresh failed" },
  unknown: { tone: "muted", meaning: "refreshed by the cluster itself, where the app may not look" },
  fresh: { tone: "ok", meaning: "valid, and refreshed in time" },
  removed: { tone: "muted", meaning: "not refreshed any more: its namespace has lost the labels" },
};

const number = (value) => value.toLocaleString("en");
const count = (value, noun) => `${number(value)} ${noun}${value === 1 ? "" : "s"}`;
const sum = (values) => values.reduce((total, value) => total + value, 0);

/** Milliseconds in words: 52 s, 41 min, 3 h 20 min, 2 d 4 h. */
function duration(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  const minutes = Math.floor(seconds / 60);
  const hours = Math.floor(minutes / 60);
  if (seconds < 120) return `${seconds} s`;
  if (minutes < 120) return `${minutes} min`;
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

/** How long ago a time was, kept up to date. */
function ago(time, otherwise = "never") {
  if (!time) return otherwise;
  const at = Date.parse(time);
  const element = make("time", { datetime: time, title: new Date(at).toLocaleString() });
  return ticking(element, () => setText(element, `${duration(serverNow() - at)} ago`));
}

/** The share of a token's life that is left, from 0 to 1; null where the secret has none. */
function lifeLeft(secret) {
  if (!secret?.expiresAt || !secret.issuedAt) return null;
  const expires = Date.parse(secret.expiresAt);
  return Math.min(1, Math.max(0, (expires - serverNow()) / (expires - Date.parse(secret.issuedAt))));
}

/** Replaced at half of its life at the latest while all is well; below a sixth there is little time left. */
const lifeTone = (share) => (share >= 1 / 2 ? "ok" : share >= 1 / 6 ? "warn" : "bad");

/** A bar and the time that is left of a secret's token, kept up to date. */
function lifeBar(secret) {
  if (lifeLeft(secret) === null) return make("span", { class: "life none" }, "no token");
  const fill = make("span", {});
  const bar = make("span", { class: "bar", "aria-hidden": "true" }, fill);
  const text = make("span", { class: "left" });
  return ticking(make("span", { class: "life" }, bar, text), (life) => {
    const share = lifeLeft(secret);
    const left = Date.parse(secret.expiresAt) - serverNow();
    life.dataset.tone = lifeTone(share);
    fill.style.width = `${share * 100}%`;
    setText(text, left > 0 ? `${duration(left)} left` : `expired ${duration(-left)} ago`);
  });
}

function stateBadge(state) {
  const known = STATES[state] ?? { tone: "muted", meaning: "" };
  return make("span", { class: "state", "data-tone": known.tone, title: known.meaning }, state);
}

/** The parts of a cluster's Azure resource id. */
function clusterParts(id) {
  const [, , subscription, , group, , , , name] = id.split("/");
  return { subscription, group, name };
}

const clusterName = (id) => clusterParts(id).name ?? id;

/** The address of a cluster's routes. */
function clusterRoute(id) {
  const { subscription, group, name } = clusterParts(id);
  return ["clusters", subscription, group, name].map((part) => encodeURIComponent(part)).join("/");
}
