"""The app object: registers all triggers."""

import azure.functions as func

from functions import dashboard, diagnosis, fleet, onboarding, refresh, schedule, status
from functions.requests import is_sign_in_required

# Where callers sign in with Entra, an app role opens a route (functions/route.py). Elsewhere a function key does.
level = func.AuthLevel.ANONYMOUS if is_sign_in_required() else func.AuthLevel.FUNCTION
app = func.FunctionApp(http_auth_level=level)
for part in (schedule, refresh, onboarding, fleet, diagnosis, status, dashboard):
    app.register_functions(part.blueprint)
