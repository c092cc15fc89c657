//! Codes about catalogs, update servers, transfers, disk and database.

macro_rules! fetching {
    ([$first:ident $($rest:ident)*] $($rows:tt)*) => { $first! { [$($rest)*] $($rows)*
    CatalogMalformed "CATALOG_MALFORMED" Failed 502 None,
        "a catalog cannot be read",
        "the document is damaged, or is no ESD catalog",
        "the file and place named above",
        "fetch the catalog again; the database is unchanged";
    CatalogTruncated "CATALOG_TRUNCATED" Failed 502 None,
        "a catalog ends too early",
        "the download was cut, or the file is a fragment",
        "the file and place named above",
        "fetch the catalog again; the database is unchanged";
    CatalogTooLarge "CATALOG_TOO_LARGE" Failed 502 None,
        "a catalog is larger than spsync is willing to read",
        "a hostile or mistaken source",
        "the file named above",
        "check the source: real catalogs are far smaller";
    CabMalformed "CAB_MALFORMED" Failed 502 None,
        "a cabinet cannot be read",
        "the file is damaged, or is no cabinet",
        "cabextract -t FILE",
        "fetch the file again; the database is unchanged";
    CabSpanned "CAB_SPANNED" Failed 502 None,
        "a cabinet is one part of a set",
        "the rest of the set is in other files",
        "cabextract -l FILE",
        "give the whole catalog as one cabinet";
    CabUnsupported "CAB_UNSUPPORTED" Failed 502 None,
        "a cabinet is compressed in a way that spsync does not read",
        "Quantum compression",
        "cabextract -l FILE",
        "unpack it with cabextract and give the XML file";
    ImageMalformed "IMAGE_MALFORMED" Failed 422 None,
        "a WIM or ESD file cannot be read",
        "the file is damaged, or is no WIM or ESD",
        "wimlib-imagex info FILE",
        "fetch the file again";
    SourceUnreachable "SOURCE_UNREACHABLE" Failed 502 Some("12007"),
        "a source cannot be reached",
        "name resolution, routing, a firewall or a proxy",
        "the address named above, with curl",
        "check name, network and proxy, then run the command again";
    SourceNotFound "SOURCE_NOT_FOUND" Failed 502 Some("0x80070194"),
        "a source says that it has no such file",
        "the link of the catalog has expired, or the mirror lacks the file",
        "the address named above, with curl",
        "run `spsync now` for fresh links, or give another source";
    SourceRefused "SOURCE_REFUSED" Failed 502 Some("0x80070005"),
        "a source refuses to answer",
        "missing rights, a proxy that wants authentication",
        "the address named above, with curl",
        "check the rights at the source";
    SourceFailed "SOURCE_FAILED" Failed 502 Some("0x800701F6"),
        "a source failed",
        "an error inside the source (5xx), or an answer that HTTP does not allow",
        "the address named above, with curl",
        "run the command again later: what was received is kept";
    SourceCoded "SOURCE_CODED" Failed 502 None,
        "a source sends a file coded, which was not asked for",
        "a server or a proxy that compresses what it sends, or says Content-Encoding of a file that is compressed itself; only a name that ends with .gz may be said to be gzip",
        "curl -sSI -H 'Accept-Encoding: identity' ADDRESS, with the address named above",
        "have that server or proxy send the file as it is, or fetch it there and name the file instead of the address";
    SyncTlsUntrusted "SYNC_TLS_UNTRUSTED" Failed 502 None,
        "a source's certificate is not trusted",
        "a proxy that inspects TLS, a private authority, a wrong clock",
        "openssl s_client -connect HOST:443",
        "add the issuer to [tls] extra_ca_file, then run the command again";
    NetworkNotAllowed "NETWORK_NOT_ALLOWED" Refused 403 None,
        "an address in a private network was refused",
        "the source, or a redirect, points into a network that is not named for it",
        "the address named above",
        "if that is meant, name the network in allow_networks of the source";
    RedirectNotAllowed "REDIRECT_NOT_ALLOWED" Refused 403 None,
        "a redirect to a host that is not on the list was refused",
        "a captive portal, a proxy, a hostile source",
        "the address named above",
        "if that is meant, name the final address in catalogs";
    TooManyRedirects "TOO_MANY_REDIRECTS" Failed 502 None,
        "a source redirects without end",
        "a mistake in the source's configuration",
        "the address named above, with curl -L",
        "correct the source";
    SchemeNotAllowed "SCHEME_NOT_ALLOWED" Refused 422 None,
        "only http and https addresses are fetched",
        "a catalog or a source with another kind of address",
        "the address named above",
        "use an http or https address, or a file";
    TransferStalled "TRANSFER_STALLED" Failed 504 None,
        "a source stopped sending",
        "a slow or broken path",
        "the address named above",
        "run the command again: what was received is kept";
    TransferCutShort "TRANSFER_CUT_SHORT" Failed 502 None,
        "a source ended before the whole file had come",
        "a broken path, a proxy with a limit",
        "the address named above",
        "run the command again: what was received is kept";
    TransferTooLong "TRANSFER_TOO_LONG" Failed 502 None,
        "a source sent more than the file has",
        "a looping or hostile source, another file under the same address",
        "the address named above",
        "run `spsync now`, then the command again; nothing was stored";
    WrongRange "WRONG_RANGE" Failed 502 None,
        "a source answered with another part than was asked for",
        "a proxy that strips or rewrites Range",
        "the address named above, with curl -r",
        "use another source, or a path without that proxy";
    SizeMismatch "SIZE_MISMATCH" Failed 502 None,
        "a file has another size than the catalog says",
        "the link serves another file",
        "the address named above",
        "run `spsync now`, then the command again; nothing was stored";
    HashMismatch "HASH_MISMATCH" Failed 502 Some("0x80091007"),
        "a file has another digest than the catalog says",
        "corruption on the way, or the link serves another file",
        "the address named above",
        "run `spsync now`, then the command again; nothing was stored";
    Sha256Required "SHA256_REQUIRED" Refused 409 None,
        "only a SHA-1 was published for this file, and [download] require_sha256 is on",
        "an older catalog",
        "spsync updates show ID",
        "set require_sha256 = false, or choose a newer release";
    DiskFull "DISK_FULL" Failed 507 Some("0x80070070"),
        "there is not enough space on the disk",
        "the content library has reached [download] min_free",
        "df -h on the directory named; spsync status",
        "free space, then run the command again: what was received is kept";
    DiskError "DISK_ERROR" Failed 500 None,
        "the disk could not be read or written",
        "a failing disk, missing rights",
        "the file named above; dmesg",
        "mend the cause, then run the command again";
    ContentCorrupt "CONTENT_CORRUPT" Mismatch 500 None,
        "stored content no longer has its digest",
        "a failing disk, or somebody changed the file",
        "spsync package validate P",
        "download the package again: the bad file was set aside";
    ContentBusy "CONTENT_BUSY" Conflict 409 None,
        "another transfer works on the same content",
        "two commands fetch the same file into one content library, or a download is still ending",
        "spsync task list",
        "wait until the other one has ended, then run the command again: what was received is kept";
    DatabaseTooNew "DATABASE_TOO_NEW" Failed 500 None,
        "the database was written by a newer spsync",
        "an older program was installed over a newer one",
        "spsync version",
        "install the newer program again, or put the copy in its place that the newer one made before it changed anything, `spsync.db.before-N` beside it";
    DatabaseFailed "DATABASE_FAILED" Failed 500 None,
        "the database could not be read or written",
        "a full or failing disk",
        "df -h on the data directory; dmesg",
        "mend the cause, then run the command again: nothing half-written is kept";
    SyncPartial "SYNC_PARTIAL" Partly 502 None,
        "some catalogs could not be synchronised",
        "see the catalogs listed",
        "spsync sync show RUN",
        "mend the cause, then `spsync now`";
    ProtocolMalformed "PROTOCOL_MALFORMED" Failed 502 None,
        "an update server's answer cannot be understood",
        "a proxy's own page, another service at that address, a damaged answer",
        "spsync sync test; the address named above, with curl",
        "check the source's url, then `spsync now`: what is recorded stays";
    UpstreamFault "UPSTREAM_FAULT" Failed 502 None,
        "an update server refuses a call",
        "its own failure, or an argument that it does not like",
        "the fault named above; the server's own log",
        "run `spsync now` again later; what is recorded stays";
    UpstreamBusy "UPSTREAM_BUSY" Failed 503 None,
        "an update server is busy",
        "many servers ask at once",
        "spsync sync test",
        "run `spsync now` again later: it goes on where it stopped";
    UpstreamCookie "UPSTREAM_COOKIE" Failed 502 None,
        "an update server refuses every cookie that it gives",
        "a load balancer without affinity, a wrong clock, a server that was restored",
        "spsync sync test",
        "check the server, then `spsync now`: it goes on where it stopped";
    UpstreamIncompatible "UPSTREAM_INCOMPATIBLE" Failed 502 None,
        "an update server speaks another major version of the protocol",
        "a server that is no WSUS",
        "spsync sync test",
        "check the source's url";
    PlainHttpRefused "PLAIN_HTTP_REFUSED" Refused 403 None,
        "metadata, keys and tokens are neither sent nor taken over plain HTTP",
        "the address of an update server, or of the site as a point or device knows it, begins with http",
        "spsync config show",
        "use https; on a network that you trust set [sync] allow_plain_http, or [server] allow_plain_enrolment at the site and allow_plain_key of [dp] or [client] on the other machine";
    RevisionQuarantined "REVISION_QUARANTINED" Partly 502 None,
        "revisions could not be fetched or read, and are set aside",
        "an upstream that cannot give one of its own revisions, or gives a damaged one",
        "spsync sync show RUN",
        "nothing; each run tries them again, and everything else is recorded";
    RevisionContradicts "REVISION_CONTRADICTS" Partly 502 None,
        "an upstream gives other bytes for a revision that is recorded",
        "a lying or restored upstream: a revision never changes",
        "spsync updates show ID",
        "check the source; the recorded document stays";
    ImportPartlyDone "IMPORT_PARTLY_DONE" Partly 502 None,
        "some documents of the export cannot be used",
        "documents that are damaged, or that have other bytes than those recorded for the same revision",
        "spsync updates import FILE --dry-run",
        "nothing, if they are not needed: everything else is recorded; else export anew at the server";
    NoCatalog "NO_CATALOG" Refused 409 None,
        "there is nothing to synchronise from",
        "no [[source]] is configured",
        "spsync config show",
        "add a [[source]] to the configuration";
    } };
}
