"use strict";
// The start: takes the key, listens to the page's fixed elements, and loads.

let drawRequested = false;

/** Draw once with the next frame, however much has arrived by then. */
function requestDraw() {
  if (drawRequested) return;
  drawRequested = true;
  requestAnimationFrame(() => {
    drawRequested = false;
    drawAll();
  });
}

function drawAll() {
  if (byId("main").hidden) return;
  const problems = findProblems();
  drawSummary(problems);
  drawProblems(problems);
  drawHubs();
  drawOperations();
  drawApp();
  drawTable();
  drawPanel();
  const failures = [...fleet.failures, fleet.refused].filter(Boolean).map((one) => one.shown);
  redraw(byId("failures"), failures, (shown) => shown.map(problemBox));
  redraw(byId("as-of"), { at: fleet.asOf }, ({ at }) =>
    at ? ["As of ", make("time", {}, new Date(at).toLocaleTimeString())] : "Loading",
  );
  setText(byId("pause"), fleet.paused ? "Resume" : "Pause");
  byId("pause").title = fleet.paused ? "Load again by itself" : `Loads again every ${duration(period())}. Stop that`;
}

function showRefusal(problem) {
  if (problem.status === 401) return askForAccess(problem);
  fleet.refused = problem;
  announce(problem.message);
  drawAll();
}

/** Show how to get in. problem: why the last call was refused. */
function askForAccess(problem) {
  const withKey = document.documentElement.dataset.access === "key";
  for (const dialog of document.querySelectorAll("dialog[open]")) dialog.close();
  byId("main").hidden = byId("tools").hidden = true;
  byId("sign-in").hidden = false;
  byId("key-form").hidden = !withKey;
  byId("entra").hidden = withKey;
  setText(byId("sign-in-title"), withKey ? "This page needs a function key" : "Sign in to see the fleet");
  setText(byId("refused"), problem.title);
  forgetKey();
  byId("entra-link").href =
    `/.auth/login/aad?post_login_redirect_uri=${encodeURIComponent(location.pathname + location.search)}`;
  byId(withKey ? "key" : "entra-link").focus();
}

function start() {
  byId("sign-in").hidden = true;
  byId("main").hidden = byId("tools").hidden = false;
  byId("forget").hidden = !hasKey();
  drawAll();
  keepLoading();
}

function signIn(event) {
  event.preventDefault();
  keepKey(byId("key").value);
  byId("key").value = "";
  start();
}

function listen() {
  byId("key-form").addEventListener("submit", signIn);
  byId("forget").addEventListener("click", () => {
    forgetKey();
    location.reload();
  });
  byId("pause").addEventListener("click", () => setPaused(!fleet.paused));
  byId("refresh").addEventListener("click", () => refresh("refresh", "the whole fleet"));
  byId("open-onboarding").addEventListener("click", openOnboarding);
  for (const name of ["state", "hub", "text"]) {
    byId(`filter-${name}`).addEventListener("input", (event) => show({ [name]: event.target.value }));
  }
  byId("filters").addEventListener("submit", (event) => event.preventDefault());
  byId("clear").addEventListener("click", () => {
    show({ state: "", hub: "", text: "" });
    byId("filter-text").focus();
  });
  byId("rows").addEventListener("keydown", stepThroughRows);
  addEventListener("scroll", () => requestAnimationFrame(drawRows), { passive: true });
  addEventListener("resize", () => requestAnimationFrame(drawRows));
  byId("panel").addEventListener("cancel", (event) => {
    event.preventDefault();
    closePanel();
  });
  byId("panel-close").addEventListener("click", closePanel);
  byId("onboard-form").addEventListener("submit", plan);
  byId("onboard-form").addEventListener("input", forgetPlan);
  byId("onboard-close").addEventListener("click", () => byId("onboarding").close());
}

takeKeyFromAddress();
listen();
start();
