"""The publisher's application, as a request names it."""

from typing import Annotated

from pydantic import Field, StringConstraints

from pullkeeper.document import Document
from pullkeeper.service_accounts import ObjectName

ImageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][A-Za-z0-9./:_@-]{3,400}$")]


class Workload(Document):
    """The publisher's application, as its installation guide deploys it."""

    image: ImageName
    replicas: Annotated[int, Field(ge=0, le=100, strict=True)] = 2
    config_secret: ObjectName = "deepintshield-config"
