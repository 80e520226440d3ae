"""The app object: registers all triggers."""

import azure.functions as func

from functions import dashboard, diagnosis, fleet, onboarding, refresh, schedule, status

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)
for part in (schedule, refresh, onboarding, fleet, diagnosis, status, dashboard):
    app.register_functions(part.blueprint)
