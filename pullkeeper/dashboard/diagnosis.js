"use strict";
// The diagnosis of a cluster or a hub: each hop on the way from the app's identity to the pods.

const HOP_TONES = { ok: "ok", warning: "warn", failed: "bad", skipped: "muted" };

/** By route: {running}, {problem} or {result}. */
const diagnoses = new Map();

async function diagnose(route, title) {
  diagnoses.set(route, { running: true });
  announce(`The diagnosis of ${title} runs. It takes 15 seconds at most.`);
  drawAll();
  try {
    const result = await call("GET", route);
    diagnoses.set(route, { result });
    announce(`The diagnosis of ${title}: ${result.state}`);
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    diagnoses.set(route, { problem: error.shown });
  }
  drawAll();
}

function diagnoseButton(route, title) {
  const running = Boolean(diagnoses.get(route)?.running);
  const click = () => running || diagnose(route, title);
  return make(
    "button",
    { click, "aria-disabled": String(running), "data-key": `diagnose ${route}` },
    running ? "Diagnosing" : "Diagnose",
    make("span", { class: "unseen" }, ` ${title}`),
  );
}

function drawDiagnosis(route) {
  const { running, problem, result } = diagnoses.get(route) ?? {};
  if (running) return make("p", { class: "working" }, "Each hop is being checked, for 15 seconds at most.");
  if (problem) return problemBox(problem);
  if (!result) return null;
  return [
    make(
      "p",
      { class: "quiet" },
      "As of ",
      ago(result.at),
      `, in ${result.seconds.toFixed(1)} s. Nothing was changed.`,
    ),
    make("ol", { class: "hops" }, result.hops.map(drawHop)),
  ];
}

function drawHop(hop) {
  const { name, subject, state, detail, evidence, because, category, remedy, runbook } = hop;
  const seen = Object.entries(evidence);
  const key = `evidence ${name} ${subject}`;
  return make(
    "li",
    { "data-tone": HOP_TONES[state] },
    make(
      "div",
      { class: "heading" },
      make("span", { class: "state", "data-tone": HOP_TONES[state] }, state),
      make("strong", {}, name),
      subject && make("span", { class: "quiet" }, subject),
    ),
    make(
      "p",
      {},
      category && make("code", { class: "category" }, category),
      " ",
      detail,
      because && ` (${because} comes first)`,
    ),
    remedy && copyable(remedy, `remedy for ${name}`),
    pageLink(runbook, "Runbook"),
    seen.length > 0 &&
      make(
        "details",
        { "data-key": key, open: state === "failed" },
        make("summary", { "data-key": `${key} summary` }, "What was seen"),
        make(
          "dl",
          {},
          seen.map(([term, fact]) => make("div", {}, make("dt", {}, term), make("dd", {}, fact))),
        ),
      ),
  );
}
