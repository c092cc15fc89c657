-- Where clients reach a point over TLS: content that is for those with a key is fetched there.
ALTER TABLE point ADD COLUMN tls_url TEXT NOT NULL DEFAULT '';
