"""The routes of services behind a dispatcher, such as the gallery of products: their tokens, and what they return.

Roles and texts are those of dispatcher 1.3.6. The mock has none of the services: with a valid token, a request gets the
page that the user of the mock wrote for it, else an empty result.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from mock_server.http_responses import html_page, json_response

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

    from mock_server.pages import Pages
    from mock_server.request_context import RequestReader

_GALLERY: Final = "gallery contributor"
_REPORT: Final[Mapping[str, Any]] = {
    "email_report_status": "incident report email successfully sent",
    "martix_message_report_status": "incident report message successfully sent via matrix",  # so spelled
    "martix_message_report_status_details": {"res_content": {"res_content_incident_reports_failed": []}},
}
_OAUTH_ARGUMENTS: Final = frozenset({"client_id", "code", "redirect_uri"})
_DUMMY_PLUGIN: Final = "dummy_plugin"


@dataclass(frozen=True)
class Service:
    """What a service needs and returns.

    `methods` as in Flask; `purpose` is for the message about a missing `role`; `result` is sent if no page fits, a list
    as text, like the dispatcher does. `authentication` is whether a token is checked, and `reads_form` whether it may
    be in a form.
    """

    methods: tuple[str, ...]
    result: Any
    role: str | None = None
    purpose: str = "for this type of request"
    authentication: Literal["needed", "optional", "ignored"] = "needed"
    reads_form: bool = True


_GET: Final = ("GET", "HEAD", "OPTIONS")
_POST: Final = ("POST", "OPTIONS")
_TO_POST: Final = "to post on the product gallery"
_ENTITIES: Final = "to getting all the astro entities from the product gallery"

SERVICES: Final[Mapping[str, Service]] = {
    "get_list_terms": Service(_GET, [], _GALLERY, _TO_POST),
    "get_parents_term": Service(_GET, [], _GALLERY, _TO_POST),
    "get_observation_attachments": Service(_GET, {}, _GALLERY, _TO_POST),
    "get_all_revs": Service(_GET, [], _GALLERY, "to getting all the revolutions from the product gallery"),
    "get_all_astro_entities": Service(_GET, [], _GALLERY, _ENTITIES),
    "get_astro_entity_info_by_source_name": Service(_GET, {}, authentication="ignored"),
    "get_data_product_list_with_conditions": Service(_GET, [], purpose=_ENTITIES, authentication="optional"),
    "get_data_product_list_by_source_name": Service(_GET, [], _GALLERY, _ENTITIES, authentication="optional"),
    "post_astro_entity_to_gallery": Service(_POST, {}, _GALLERY, _TO_POST),
    "post_observation_to_gallery": Service(_POST, {}, _GALLERY, _TO_POST),
    "post_product_to_gallery": Service(_POST, {}, _GALLERY, _TO_POST),
    "delete_product_to_gallery": Service(_POST, {}, _GALLERY, "to delete from the product gallery"),
    "post_revolution_processing_log_to_gallery": Service(
        _POST, {}, _GALLERY, "to post revolution processing log on the product gallery"
    ),
    "report_incident": Service(_POST, _REPORT, reads_form=False),
    "free-up-space": Service(
        ("GET", "HEAD", "POST", "OPTIONS"),
        {"output_status": "Removed 0 scratch directories, and 0 lock files."},
        "space manager",
        "to free_up space on the server",
        reads_form=False,
    ),
}
"""The services whose token is checked before anything else, by route."""


@dataclass(frozen=True)
class ServiceRoutes:
    """Answers requests for services; `has_dummy_plugin` is whether that plugin can be reloaded."""

    reader: RequestReader
    pages: Pages
    has_dummy_plugin: bool

    def respond(self, route: str, path: str, query: Mapping[str, str], arguments: Mapping[str, Any]) -> web.Response:
        """Return the response of a service; raises ServiceForbiddenError, or InternalServerError.

        `query` are the arguments in the query string, and `arguments` all of them.
        """
        service = SERVICES[route]
        token = (arguments if service.reads_form else query).get("token")
        if service.authentication == "needed" or (service.authentication == "optional" and token is not None):
            text = None if token is None else str(token)
            self.reader.service_token(text, service.role, purpose=service.purpose, is_required=True)
        texts = {name: str(value) for name, value in arguments.items()}
        page = self.pages.find(path, texts)
        result = service.result if page is None else page.filled_in(texts)
        return html_page(json.dumps(result)) if isinstance(result, list) else json_response(result)

    def load_file(self, path: str, arguments: Mapping[str, Any]) -> web.Response:
        """Answer a request for a file of another site, which a dispatcher would fetch; raises ServiceForbiddenError."""
        token = arguments.get("token")
        self.reader.service_token(None if token is None else str(token), is_required=True)
        if arguments.get("fits_file_url") is None:
            return html_page("fits_file_url arg not provided", 400)
        texts = {name: str(value) for name, value in arguments.items()}
        page = self.pages.find(path, texts)
        if page is None:
            return html_page("The mock fetches no file from another site: add a page for this request (--pages)", 404)
        return html_page(str(page.filled_in(texts)), page.status)

    def reload_plugin(self, name: str) -> web.Response:
        """Answer a request to reload a plugin, which changes nothing."""
        if self.has_dummy_plugin and name == _DUMMY_PLUGIN:
            return html_page(f"Plugin {name} reloaded\n")
        return html_page(f"Plugin {name} not found\n", 400)

    def exchange_code(self, arguments: Mapping[str, Any]) -> web.Response:
        """Refuse to exchange a code of GitLab for a token, like a dispatcher that is not configured for it."""
        is_complete = arguments.keys() >= _OAUTH_ARGUMENTS
        place = (
            "configuration parameters are not  properly configured in this instance"
            if is_complete
            else ("parameters are not properly configured in this request")
        )
        return html_page(f"One or more Oauth-related {place}.", 400)
