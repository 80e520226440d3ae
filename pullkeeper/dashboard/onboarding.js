"use strict";
// The form that onboards a cluster: the plan first, then the same request for real.

/** The request that was planned, and what it would do; what runs now. */
let onboarding = { request: null, operation: null, problem: null, busy: false };

/** Build the body of `POST /api/clusters` from the form. Throws SyntaxError if the further fields are no JSON object. */
function readRequest(form) {
  const fields = new FormData(form);
  const accounts = fields
    .get("accounts")
    .split(",")
    .map((name) => name.trim())
    .filter(Boolean);
  const target = { namespace: fields.get("namespace").trim(), secret: fields.get("secret").trim() };
  target.serviceAccounts = accounts.map((name) => (fields.has("federate") ? { name, federate: true } : name));
  const request = { cluster: fields.get("cluster").trim(), targets: [target] };
  if (fields.get("hub")) request.hub = fields.get("hub");
  for (const name of ["enableWorkloadIdentity", "adopt", "retireCronJob"]) if (fields.has(name)) request[name] = true;
  const further = JSON.parse(fields.get("further").trim() || "{}");
  if (further === null || typeof further !== "object" || Array.isArray(further))
    throw new SyntaxError("it is no JSON object");
  return { ...request, ...further };
}

function openOnboarding() {
  redraw(byId("onboard-hub"), fleet.status?.hubs ?? [], (hubs) => [
    ...hubs.filter((hub) => !hub.fault).map((hub) => make("option", { value: hub.name }, hub.name)),
    make("option", { value: "" }, "none yet: stop after the handover for the publisher"),
  ]);
  forgetPlan();
  byId("onboarding").showModal();
}

/** A form that has changed needs a new plan. */
function forgetPlan() {
  onboarding = { request: null, operation: null, problem: null, busy: false };
  drawOnboarding();
}

async function plan(event) {
  event.preventDefault();
  let request;
  try {
    request = readRequest(event.target);
  } catch (error) {
    onboarding = { ...onboarding, problem: { title: "Further fields:", detail: error.message } };
    return drawOnboarding();
  }
  await runOnboarding(request, true);
}

/** Send a request and follow its operation while the form stays as it is. */
async function runOnboarding(request, dryRun) {
  const own = (onboarding = { request, operation: null, problem: null, busy: true });
  const isWanted = () => onboarding === own;
  const report = (operation) => {
    own.operation = operation;
    drawOnboarding();
  };
  drawOnboarding();
  try {
    const started = await call("POST", "clusters", { ...request, dryRun });
    if (!dryRun) hurry();
    report(started);
    byId("onboard-progress").scrollIntoView();
    await followOperation(started.id, report, isWanted);
    if (isWanted())
      announce(dryRun ? "The plan is ready" : `Onboarding: ${OPERATION_WORDS[own.operation.status].word}`);
    if (!dryRun) hurry();
  } catch (error) {
    if (!(error instanceof Problem)) throw error;
    own.problem = error.shown;
  }
  own.busy = false;
  if (isWanted()) drawOnboarding();
}

function drawOnboarding() {
  const { request, operation, problem, busy } = onboarding;
  byId("plan").disabled = busy;
  redraw(byId("onboard-progress"), onboarding, () => {
    if (problem) return problemBox(problem);
    if (!operation) return busy ? make("p", { class: "working" }, "Sending") : [];
    const name = clusterName(operation.cluster);
    const title = operation.dryRun ? `The plan for ${name}` : `Onboarding ${name}`;
    const planned = operation.dryRun && operation.status !== "Failed" && !busy;
    const go = { class: "primary", "data-key": "onboard", click: () => runOnboarding(request, false) };
    const button = planned && make("div", {}, make("button", go, `Onboard ${name}`));
    return [make("h3", {}, title), button, drawOperation(operation)];
  });
}
