//! Codes about devices that fetch, the admin API, listeners.

macro_rules! clients {
    ([$first:ident $($rest:ident)*] $($rows:tt)*) => { $first! { [$($rest)*] $($rows)*
    ClientNoSite "CLIENT_NO_SITE" Refused 409 None,
        "the client knows no site",
        "[client] site is empty and no site runs on this machine",
        "spsync config show",
        "set `[client] site = \"https://SITE:8531\"`";
    DeviceKeyMissing "DEVICE_KEY_MISSING" Refused 409 None,
        "this device has no key, so the site does not believe what it says",
        "it never enrolled, or [client] key_file cannot be read",
        "spsync config show",
        "enrol the device with `spsync client enrol`";
    SiteAnswerInvalid "SITE_ANSWER_INVALID" Failed 502 None,
        "the site's answer cannot be understood",
        "another program listens at that address, or another version",
        "curl on the address named",
        "check `[client] site`";
    ApiRouteUnknown "API_ROUTE_UNKNOWN" NotFound 404 None,
        "the admin API has no such route",
        "a misspelt path, or a route of another version",
        "`GET /api/v1/openapi.json` lists the routes",
        "use a route of that list";
    ApiMethodNotAllowed "API_METHOD_NOT_ALLOWED" Usage 405 None,
        "the admin API has this route, but not for this method",
        "-",
        "the field `Allow` of the answer",
        "use a method that the route has";
    ApiTokenRefused "API_TOKEN_REFUSED" NotPermitted 401 Some("0x80070005"),
        "the admin API does not accept this token",
        "there is none in the request, it is over or was revoked, or it is another site's",
        "spsync token list",
        "make one at the site with `spsync token create NAME`, and send it as `Authorization: Bearer`";
    ApiOriginRefused "API_ORIGIN_REFUSED" NotPermitted 403 None,
        "the admin API does not answer to this name, or to web pages of other origins",
        "the field `Host` names what is no name of the site, or a browser sent a request for another site's page",
        "spsync tls show",
        "ask by address, by `localhost`, or by a name that is in the site's certificate";
    ApiMediaType "API_MEDIA_TYPE" Usage 415 None,
        "the admin API takes JSON only",
        "the field `Content-Type` is missing or says something else",
        "-",
        "send `Content-Type: application/json`";
    ApiTooLarge "API_TOO_LARGE" Usage 413 None,
        "the body of a request is larger than the admin API takes",
        "-",
        "-",
        "send less than 16 MiB; larger files go into the folder `exchange` of the data directory";
    ApiPreconditionRequired "API_PRECONDITION_REQUIRED" Refused 428 None,
        "this change needs `If-Match`, so that nobody's work is lost",
        "-",
        "the field `ETag` of the answer to GET",
        "read it, and send its `ETag` as `If-Match`";
    ApiPreconditionFailed "API_PRECONDITION_FAILED" Conflict 412 None,
        "it was changed since it was read",
        "somebody else changed it",
        "-",
        "read it again, and repeat the change";
    ApiBusy "API_BUSY" Refused 503 None,
        "the admin API has as much to do as it does at once",
        "many requests at once, or many changes while `If-Match` was looked at",
        "spsync task list",
        "repeat the request after the seconds of `Retry-After`: nothing was done";
    ApiTooMany "API_TOO_MANY" Refused 429 None,
        "this token has as many requests or event streams at once as one may have",
        "a script that asks for many things at once, or leaves streams open",
        "-",
        "end some of them, or repeat the request after the seconds of `Retry-After`: nothing was done";
    ApiKeyInUse "API_KEY_IN_USE" Conflict 409 None,
        "this `Idempotency-Key` stands for another request, or for one that is still worked on",
        "a key that was used twice, or a request that was repeated too soon",
        "-",
        "repeat the same request later, or use a new key for another one";
    ListenFailed "LISTEN_FAILED" Failed 500 None,
        "an address cannot be listened on",
        "another program has the port, the address is not this machine's, or the port is below 1024 and needs a right",
        "ss -ltnp; the address named above",
        "free the port, or set another address: [server] listen or listen_tls, [admin] listen, listen_tls or socket; docs/systemd/spsync.service says what port 80 needs";
    DemoFailed "DEMO_FAILED" Failed 500 None,
        "the demonstration did not end as it should",
        "-",
        "run it again with -v",
        "report it with the output of `spsync demo -v`";
    } };
}
