"use strict";
// An onboarding or offboarding: its steps while it runs, and what it leaves.

const OPERATION_WORDS = {
  Queued: { word: "queued", tone: "info" },
  Running: { word: "running", tone: "info" },
  Succeeded: { word: "succeeded", tone: "ok" },
  AwaitingFederation: { word: "awaits the publisher", tone: "warn" },
  Failed: { word: "failed", tone: "bad" },
};
const STEP_TONES = { pending: "muted", running: "info", done: "ok", planned: "info", failed: "bad", skipped: "muted" };
const POLL = 1000;

const hasEnded = (operation) => !RUNNING.includes(operation.status);
const wait = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));

/** Read an operation until it ends, and report each state of it. isWanted: whether anybody still looks. */
async function followOperation(id, report, isWanted) {
  for (;;) {
    const operation = await call("GET", `operations/${encodeURIComponent(id)}`);
    if (!isWanted()) return;
    report(operation);
    if (hasEnded(operation)) return;
    await wait(POLL);
  }
}

function drawOperation(operation) {
  const { word, tone } = OPERATION_WORDS[operation.status];
  const { result } = operation;
  const kind = `${operation.kind}${operation.dryRun ? ", dry run: nothing is changed" : ""}`;
  return [
    make(
      "p",
      {},
      make("span", { class: "state", "data-tone": tone }, word),
      ` ${kind}, `,
      ago(operation.createdAt),
      result?.seconds ? `, took ${duration(result.seconds * 1000)}` : "",
    ),
    make("ol", { class: "steps" }, operation.steps.map(drawStep)),
    result && drawResult(result),
  ];
}

function drawStep({ name, status, detail, category, remedy, runbook }) {
  const tone = STEP_TONES[status];
  return make(
    "li",
    { "data-tone": tone },
    make(
      "div",
      { class: "heading" },
      make("span", { class: "state", "data-tone": tone }, status),
      make("strong", {}, name),
    ),
    category ? problemBox({ category, detail, remedy, runbook }) : detail && make("p", {}, detail),
  );
}

function drawResult({ left, handover, manifests }) {
  return [
    left.length > 0 && [
      make("h3", {}, "Left as it is"),
      make(
        "ul",
        {},
        left.map((text) => make("li", {}, text)),
      ),
    ],
    handover && [
      make("h3", {}, "For the publisher"),
      copyable(handover.commands.join("\n"), "commands for the publisher"),
    ],
    manifests && [make("h3", {}, "Manifests to apply"), copyable(manifests, "manifests")],
  ];
}
