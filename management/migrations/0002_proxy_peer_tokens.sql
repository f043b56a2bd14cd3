-- By which token the peer of a proxy is here: it goes with the token.
ALTER TABLE peers ADD COLUMN proxy_token_id TEXT;
CREATE INDEX peers_proxy_token ON peers (proxy_token_id);
