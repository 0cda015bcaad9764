"""Every difference between the real dispatcher 1.3.3 and the mock, which imitates 1.3.6, with its reason.

`DIFFERENCES` maps each reason to the parts of a response that differ, and these to the names of the requests.
"""

from __future__ import annotations

DIFFERENCES: dict[str, dict[tuple[str, ...], tuple[str, ...]]] = {
    "1.3.6 words errors for bad values differently; the mock's texts are recorded, or modelled on recorded ones": {
        ("error_message",): (
            "RA is text",
            "RA with a comma",
            "RA is a list",
            "DEC is text",
            "sb is text",
            "sb true",
            "energ is text",
            "time with a blank",
            "time with blanks around",
            "time of day 60",
            "day 30 of February",
            "year of two digits",
            "T1 is text",
            "T1 is empty",
            "T1 is a number",
            "times in MJD as text",
            "format of times is empty",
            "numerical is text",
            "form with a bad parameter",
        ),
    },
    "1.3.3 reads RA and DEC as angles; 1.3.6 accepts what Python's float() accepts, also nan and inf": {
        ("status",): ("RA in hours", "RA in degrees"),
        ("error_message",): ("RA is nan", "RA is inf", "RA with underscores"),
    },
    "1.3.6 reads a NUL as null, 1.3.3 as a text": {
        ("error_message",): (
            "RA is NUL",
            "sb is NUL",
            "T1 is NUL",
            "format of times is NUL",
            "product is NUL",
            "instrument is NUL",
            "status is NUL",
        ),
        ("status",): ("source is NUL", "list is NUL"),
    },
    "an empty number is null for 1.3.6, and the default for 1.3.3": {
        ("products.analysis_parameters.RA",): ("RA is empty",),
    },
    "1.3.6 ignores arguments that the instrument does not have (also units and files), and names them in a comment": {
        ("exit_status.comment", "job_monitor.job_id", "products.analysis_parameters.energ_units"): (
            "energ in default units",
            "energ in MeV",
            "energ in eV",
            "energ in seconds",
            "energ in nonsense",
            "energ units are empty",
            "units without energ",
        ),
        ("exit_status.comment", "job_monitor.job_id", "products.analysis_parameters.ang_units"): ("ang in degrees",),
        (
            "exit_status.comment",
            "job_monitor.job_id",
            "products.analysis_parameters.ang_deg",
            "products.analysis_parameters.ang_deg_units",
        ): ("ang_deg in arcminutes",),
        ("exit_status.comment", "job_monitor.job_id", "products.analysis_parameters.RA_units"): ("RA in radians",),
        ("exit_status.comment",): ("form in parts",),
        ("exit_status.comment", "job_monitor.job_id", "products.analysis_parameters.colour", "products.job_id"): (
            "unknown argument",
            "unknown argument not allowed",
        ),
        (
            "exit_status.comment",
            "job_monitor.job_id",
            "products.analysis_parameters.colour",
            "products.analysis_parameters.taste",
            "products.job_id",
        ): ("two unknown arguments",),
        (
            "exit_status.comment",
            "job_monitor.job_id",
            "products.analysis_parameters.dry_run",
            "products.analysis_parameters.verbose",
            "products.job_id",
        ): ("what oda_api 1.0 sends",),
        ("exit_status.comment", "job_monitor.job_id", "products.analysis_parameters.", "products.job_id"): (
            "argument without a name",
        ),
        ("exit_status.comment", "job_monitor.job_id", "products.analysis_parameters.a.b", "products.job_id"): (
            "name with a dot",
        ),
    },
    "1.3.3 converts the default to another unit, which is not in the description": {
        ("job_monitor.job_id", "products.analysis_parameters.ang_deg"): ("ang_deg",),
    },
    "1.3.6 reads lists as JSON, 1.3.3 splits every text at commas": {
        ("job_monitor.job_id", "products.analysis_parameters.p_list", "products.job_id"): (
            "list as JSON",
            "list as JSON with blanks",
            "list as JSON is empty",
            "list as JSON object",
            "list as JSON of numbers",
        ),
    },
    "1.3.6 lists reports from the first response on": {
        ("job_monitor.full_report_dict_list",): (
            "windows",
            "one window",
            "windows are empty",
            "windows as JSON",
            "windows from the form",
            "no windows",
            "windows from nowhere known",
            "windows repeated",
            "asynchronous job",
            "asynchronous job fetched too early",
            "asynchronous job that fails",
            "asynchronous failure asked with ready",
            "asynchronous job run at once",
            "asynchronous job without an action",
            "asynchronous job asked for done",
            "file of windows",
            "file of windows with commas",
        ),
    },
    "1.3.3 lists reports in the order of the files on the disk": {
        ("job_monitor.full_report_dict_list",): (
            "asynchronous job in progress, asked again",
            "asynchronous job after something unknown",
            "asynchronous job half done",
            "asynchronous job ready",
        ),
    },
    "prod_process_message: missing in products of the dummy plugin that are not made by the common code": {
        ("products.prod_process_message",): (
            "sb",
            "sb with fraction",
            "sb is empty",
            "sb negative",
            "sb huge",
            "parametrical",
        ),
    },
    "a check, a failure or an array of the dummy plugin's code, which is not in the description": {
        ("status",): ("numerical without a role",),
        ("products.numpy_data_product_list", "products.prod_process_message"): (
            "numerical with a role",
            "numerical with a list of roles",
        ),
        ("exit_status.error_message", "exit_status.message", "exit_status.status", "job_status"): (
            "numerical with a token without roles",
            "token without roles",
            "token without anything",
        ),
        ("error_message",): ("numerical out of bounds",),
    },
    "1.3.3, as installed for the tests, rejects every catalogue": {
        ("error_message",): (
            "catalogue",
            "catalogue with other blanks",
            "catalogue with a selection",
            "form with a catalogue",
        ),
    },
    "1.3.3 supports dry runs; for 1.3.6 dry_run is an unknown argument": {
        (
            "exit_status.comment",
            "exit_status.message",
            "products.analysis_parameters.dry_run",
            "products.input_prod_list",
            "products.instrument_parameters",
            "products.job_id",
            "products.prod_process_message",
            "products.session_id",
        ): ("dry run",),
    },
    "once the job is done, 1.3.6 shows the session that started it, 1.3.3 the session of the request": {
        ("job_monitor.session_id",): (
            "session of one letter",
            "session with dots",
            "session with blanks",
            "session is long",
            "session with letters beyond ASCII",
            "session is new",
            "session is empty",
            "without session",
            "job fetched by another session",
            "job begun by another session",
        ),
        ("job_monitor.session_id", "job_status"): ("job asked by another session",),
    },
    "1.3.3 crashes on session names that are not folder names": {
        ("status",): ("session with a slash", "session is NUL"),
    },
    "1.3.6 describes time formats and restrictions, in lists": {
        ("body",): (
            "description with token valid",
            "description with token of another user",
            "description with token without roles",
            "description with token with a list of roles",
            "description with token of a job manager",
            "description with token without subject",
            "description with token with an address only",
            "description with token without anything",
            "description with token empty",
            "description with token None",
            "/api/meta-data",
            "/api/meta-data of empty-async",
            "/api/meta-data of a product",
            "/meta-data",
            "/meta-data of empty-async",
            "/meta-data of a product",
            "/api/par-names",
            "/api/par-names of empty-async",
            "/api/par-names of a product",
            "/meta-data-src",
            "/meta-data-src of empty-async",
            "/meta-data-src of a product",
            "/meta-data-src of an unknown product",
            "/meta-data-src of an empty product",
        ),
    },
    "1.3.6 has debug_message in errors about tokens": {
        ("debug_message",): (
            "token expired",
            "description with token expired",
            "token of another key",
            "description with token of another key",
            "token expired and of another key",
            "description with token expired and of another key",
            "token with an unknown instrument",
            "user's job asked with token expired",
            "form with an expired token",
            "/update_token_email_options with token expired",
            "/update_token_email_options with token of another key",
            "options of a token, an expired token",
        ),
    },
    "1.3.6 reads a NUL as no token": {
        ("status",): ("token NUL",),
    },
    "1.3.3 does not find the job for an unknown query_status": {
        ("job_status",): (
            "job asked with 'done'",
            "job asked with 'prepared'",
            "job asked with 'not-prepared'",
            "job asked with 'unknown'",
            "job asked with ''",
            "job asked with 'NEW'",
        ),
        ("job_monitor.full_report_dict_list", "job_status"): ("asynchronous job asked for done too early",),
    },
    "the dummy plugin's back end returns submitted to every request; that of the mock is done": {
        ("job_status",): (
            "asynchronous job fetched",
            "asynchronous job asked after it was fetched",
            "asynchronous job asked anew",
        ),
    },
    "a report without an action has no state in 1.3.3; in 1.3.6 the job is in progress": {
        ("job_status",): ("asynchronous job after no action",),
    },
    "1.3.6 leaves return_progress out of the parameters": {
        ("job_monitor.job_id", "products.analysis_parameters.return_progress", "products.job_id"): (
            "progress wanted",
            "progress not wanted",
        ),
        ("job_monitor.full_report_dict_list", "products.analysis_parameters.return_progress"): (
            "asynchronous job with progress, fetched",
        ),
        ("job_monitor.full_report_dict_list", "job_monitor.job_id", "products.analysis_parameters.return_progress"): (
            "asynchronous job with progress from the start",
        ),
    },
    "1.3.6 returns the products so far for return_progress, 1.3.3 only if the request runs the query": {
        ("products",): ("asynchronous job with its progress",),
        ("job_monitor.full_report_dict_list", "products", "query_status"): (
            "asynchronous job in progress, with its progress",
        ),
    },
    "1.3.3 finds some job for an empty job_id": {
        ("status",): ("submitted with an empty job_id",),
    },
    "1.3.3 has an instrument named mock": {
        ("status",): ("instrument is mock", "/meta-data-src of mock"),
    },
    "1.3.6 lists instruments on another route, which needs no instrument and rejects tokens with an HTML page": {
        ("status",): ("list of instruments without an instrument",),
        ("error_message",): ("list of instruments with an expired token",),
    },
    "1.3.3 resolves names and times only for contributors to the gallery": {
        ("status",): ("revolution", "name that nobody resolves"),
    },
    "1.3.3 reports job_id first; 1.3.6 names all missing arguments": {
        ("location",): (
            "/resolve-job-url with nothing",
            "/resolve-job-url with token valid",
            "/resolve-job-url with token expired",
            "/resolve-job-url with token garbage",
            "/resolve-job-url with token of another key",
        ),
    },
    "1.3.3 crashes on downloads that do not exist; 1.3.6 rejects them": {
        ("status",): (
            "download of an unknown job",
            "download for a new job",
            "download of a missing file",
            "download of a file outside",
            "download without a list of files",
        ),
    },
    "the mock answers under any path prefix, because public dispatchers have one": {
        ("status",): (
            "path /api/run_analysis",
            "path /prefix/run_analysis",
            "path /api//meta-data",
            "path /../run_analysis",
        ),
    },
    "1.3.6 names the purpose for which a role is missing": {
        ("text",): ("/inspect-state with token valid",),
    },
    "the front page of the mock leads to its controls, that of a dispatcher to the descriptions of its routes": {
        ("text",): ("path /",),
    },
    "1.3.3 does not have the route that the redirect leads to": {
        ("status",): ("list of instruments where it is redirected to",),
    },
}

DUMMY_INSTRUMENTS: dict[str, dict[tuple[str, ...], tuple[str, ...]]] = {
    "the mock's dummy instruments have the roles, the limit and the products of the plugin's code": {
        (): (
            "sb",
            "sb with fraction",
            "sb is empty",
            "sb negative",
            "sb huge",
            "parametrical",
            "numerical without a role",
            "numerical out of bounds",
        ),
    },
    "the mock pickles arrays in the form that every release of the client reads": {
        ("products.numpy_data_product_list",): ("numerical with a role", "numerical with a list of roles"),
    },
    "1.3.3 crashes on a token without roles; the mock names the missing role": {
        ("status",): ("numerical with a token without roles",),
    },
    "1.3.6 accepts what 1.3.3 rejects, and the dummy instruments then answer": {
        ("status",): (
            "RA is nan",
            "RA is inf",
            "RA with underscores",
            "catalogue",
            "catalogue with other blanks",
            "catalogue with a selection",
            "form with a catalogue",
        ),
    },
}
"""What differs otherwise if the mock has its own dummy instruments, and not those from descriptions."""
