-- The first schema: everything the control plane keeps.
-- Times are nanoseconds since 1970 (BIGINT); lists and small records are JSON text; identifiers are text.

CREATE TABLE installation (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
);

CREATE TABLE accounts (
    id                 TEXT PRIMARY KEY,
    created_by         TEXT NOT NULL,
    created_at         BIGINT NOT NULL,
    domain             TEXT NOT NULL,
    domain_category    TEXT NOT NULL,
    network_identifier TEXT NOT NULL,
    network_v4         TEXT NOT NULL,
    network_v6         TEXT NOT NULL,
    network_serial     BIGINT NOT NULL DEFAULT 0,
    settings           TEXT NOT NULL
);

CREATE TABLE users (
    id                TEXT PRIMARY KEY,
    account_id        TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    role              TEXT NOT NULL,
    is_service_user   BOOLEAN NOT NULL,
    non_deletable     BOOLEAN NOT NULL DEFAULT FALSE,
    service_user_name TEXT NOT NULL DEFAULT '',
    auto_groups       TEXT NOT NULL DEFAULT '[]',
    blocked           BOOLEAN NOT NULL DEFAULT FALSE,
    pending_approval  BOOLEAN NOT NULL DEFAULT FALSE,
    last_login        BIGINT,
    created_at        BIGINT NOT NULL,
    issued            TEXT NOT NULL DEFAULT 'api',
    name              TEXT NOT NULL DEFAULT '',
    email             TEXT NOT NULL DEFAULT ''
);
CREATE INDEX users_account ON users (account_id, created_at);

CREATE TABLE personal_access_tokens (
    id           TEXT PRIMARY KEY,
    user_id      TEXT NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name         TEXT NOT NULL,
    hashed_token TEXT NOT NULL UNIQUE,
    expires_at   BIGINT NOT NULL,
    created_by   TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    last_used    BIGINT
);
CREATE INDEX personal_access_tokens_user ON personal_access_tokens (user_id, created_at);

CREATE TABLE proxy_access_tokens (
    id           TEXT PRIMARY KEY,
    name         TEXT NOT NULL,
    hashed_token TEXT NOT NULL UNIQUE,
    account_id   TEXT REFERENCES accounts (id) ON DELETE CASCADE,
    expires_at   BIGINT,
    created_by   TEXT NOT NULL,
    created_at   BIGINT NOT NULL,
    last_used    BIGINT,
    revoked      BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX proxy_access_tokens_account ON proxy_access_tokens (account_id, created_at);

CREATE TABLE setup_keys (
    id                     TEXT PRIMARY KEY,
    account_id             TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    hashed_key             TEXT NOT NULL UNIQUE,
    key_secret             TEXT NOT NULL,
    name                   TEXT NOT NULL,
    type                   TEXT NOT NULL,
    created_at             BIGINT NOT NULL,
    expires_at             BIGINT,
    updated_at             BIGINT NOT NULL,
    revoked                BOOLEAN NOT NULL DEFAULT FALSE,
    used_times             BIGINT NOT NULL DEFAULT 0,
    last_used              BIGINT,
    auto_groups            TEXT NOT NULL DEFAULT '[]',
    usage_limit            BIGINT NOT NULL DEFAULT 0,
    ephemeral              BOOLEAN NOT NULL DEFAULT FALSE,
    allow_extra_dns_labels BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX setup_keys_account ON setup_keys (account_id, created_at);

CREATE TABLE peers (
    id                            TEXT PRIMARY KEY,
    account_id                    TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    key                           TEXT NOT NULL UNIQUE,
    ip                            TEXT NOT NULL,
    ipv6                          TEXT,
    meta                          TEXT NOT NULL DEFAULT '{}',
    proxy_embedded                BOOLEAN NOT NULL DEFAULT FALSE,
    proxy_cluster                 TEXT NOT NULL DEFAULT '',
    name                          TEXT NOT NULL,
    dns_label                     TEXT NOT NULL,
    connected                     BOOLEAN NOT NULL DEFAULT FALSE,
    last_seen                     BIGINT NOT NULL,
    session_started_at            BIGINT NOT NULL DEFAULT 0,
    login_expired                 BOOLEAN NOT NULL DEFAULT FALSE,
    requires_approval             BOOLEAN NOT NULL DEFAULT FALSE,
    user_id                       TEXT,
    ssh_key                       TEXT NOT NULL DEFAULT '',
    ssh_enabled                   BOOLEAN NOT NULL DEFAULT FALSE,
    login_expiration_enabled      BOOLEAN NOT NULL DEFAULT FALSE,
    inactivity_expiration_enabled BOOLEAN NOT NULL DEFAULT FALSE,
    last_login                    BIGINT,
    created_at                    BIGINT NOT NULL,
    ephemeral                     BOOLEAN NOT NULL DEFAULT FALSE,
    connection_ip                 TEXT NOT NULL DEFAULT '',
    country_code                  TEXT NOT NULL DEFAULT '',
    city_name                     TEXT NOT NULL DEFAULT '',
    geoname_id                    BIGINT NOT NULL DEFAULT 0,
    extra_dns_labels              TEXT NOT NULL DEFAULT '[]',
    allow_extra_dns_labels        BOOLEAN NOT NULL DEFAULT FALSE,
    UNIQUE (account_id, ip),
    UNIQUE (account_id, ipv6),
    UNIQUE (account_id, dns_label)
);
CREATE INDEX peers_account ON peers (account_id, created_at);
CREATE INDEX peers_cluster ON peers (account_id, proxy_cluster);
CREATE INDEX peers_ephemeral ON peers (ephemeral, last_seen);

CREATE TABLE groups (
    id         TEXT PRIMARY KEY,
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    issued     TEXT NOT NULL DEFAULT 'api',
    resources  TEXT NOT NULL DEFAULT '[]',
    created_at BIGINT NOT NULL
);
CREATE INDEX groups_account ON groups (account_id, created_at);
CREATE INDEX groups_name ON groups (account_id, name);

CREATE TABLE group_peers (
    account_id TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    group_id   TEXT NOT NULL REFERENCES groups (id) ON DELETE CASCADE,
    peer_id    TEXT NOT NULL REFERENCES peers (id) ON DELETE CASCADE,
    PRIMARY KEY (group_id, peer_id)
);
CREATE INDEX group_peers_account ON group_peers (account_id);
CREATE INDEX group_peers_peer ON group_peers (peer_id);

CREATE TABLE policies (
    id                    TEXT PRIMARY KEY,
    account_id            TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name                  TEXT NOT NULL,
    description           TEXT NOT NULL DEFAULT '',
    enabled               BOOLEAN NOT NULL,
    source_posture_checks TEXT NOT NULL DEFAULT '[]',
    created_at            BIGINT NOT NULL
);
CREATE INDEX policies_account ON policies (account_id, created_at);

CREATE TABLE policy_rules (
    id                   TEXT PRIMARY KEY,
    policy_id            TEXT NOT NULL REFERENCES policies (id) ON DELETE CASCADE,
    account_id           TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name                 TEXT NOT NULL,
    description          TEXT NOT NULL DEFAULT '',
    enabled              BOOLEAN NOT NULL,
    action               TEXT NOT NULL,
    bidirectional        BOOLEAN NOT NULL,
    protocol             TEXT NOT NULL,
    sources              TEXT NOT NULL DEFAULT '[]',
    destinations         TEXT NOT NULL DEFAULT '[]',
    source_resource      TEXT,
    destination_resource TEXT,
    ports                TEXT NOT NULL DEFAULT '[]',
    port_ranges          TEXT NOT NULL DEFAULT '[]',
    authorized_groups    TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX policy_rules_account ON policy_rules (account_id);
CREATE INDEX policy_rules_policy ON policy_rules (policy_id);

CREATE TABLE services (
    id                    TEXT PRIMARY KEY,
    account_id            TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    name                  TEXT NOT NULL,
    domain                TEXT NOT NULL UNIQUE,
    proxy_cluster         TEXT NOT NULL,
    enabled               BOOLEAN NOT NULL,
    terminated            BOOLEAN NOT NULL DEFAULT FALSE,
    pass_host_header      BOOLEAN NOT NULL,
    rewrite_redirects     BOOLEAN NOT NULL,
    auth                  TEXT NOT NULL DEFAULT '{}',
    restrictions          TEXT NOT NULL DEFAULT '{}',
    created_at            BIGINT NOT NULL,
    certificate_issued_at BIGINT,
    status                TEXT NOT NULL,
    status_message        TEXT NOT NULL DEFAULT '',
    last_renewed_at       BIGINT,
    session_private_key   TEXT NOT NULL,
    session_public_key    TEXT NOT NULL,
    source                TEXT NOT NULL DEFAULT 'permanent',
    source_peer           TEXT,
    mode                  TEXT NOT NULL,
    listen_port           BIGINT NOT NULL DEFAULT 0,
    port_auto_assigned    BOOLEAN NOT NULL DEFAULT FALSE,
    private               BOOLEAN NOT NULL DEFAULT FALSE,
    access_groups         TEXT NOT NULL DEFAULT '[]'
);
CREATE INDEX services_account ON services (account_id, created_at);
CREATE INDEX services_cluster ON services (proxy_cluster, id);
CREATE INDEX services_account_cluster ON services (account_id, proxy_cluster, id);
CREATE INDEX services_port ON services (proxy_cluster, mode, listen_port);

CREATE TABLE targets (
    id          TEXT PRIMARY KEY,
    account_id  TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    service_id  TEXT NOT NULL REFERENCES services (id) ON DELETE CASCADE,
    position    BIGINT NOT NULL,
    path        TEXT NOT NULL DEFAULT '',
    host        TEXT NOT NULL DEFAULT '',
    port        BIGINT NOT NULL,
    protocol    TEXT NOT NULL,
    target_id   TEXT NOT NULL,
    target_type TEXT NOT NULL,
    enabled     BOOLEAN NOT NULL,
    options     TEXT NOT NULL DEFAULT '{}'
);
CREATE INDEX targets_service ON targets (service_id, position);
CREATE INDEX targets_target ON targets (account_id, target_id);

CREATE TABLE domains (
    id             TEXT PRIMARY KEY,
    domain         TEXT NOT NULL UNIQUE,
    account_id     TEXT NOT NULL REFERENCES accounts (id) ON DELETE CASCADE,
    target_cluster TEXT NOT NULL,
    validated      BOOLEAN NOT NULL DEFAULT FALSE,
    created_at     BIGINT NOT NULL
);
CREATE INDEX domains_account ON domains (account_id, created_at);

CREATE TABLE proxies (
    id                        TEXT PRIMARY KEY,
    session_id                TEXT NOT NULL,
    cluster_address           TEXT NOT NULL,
    ip_address                TEXT NOT NULL DEFAULT '',
    account_id                TEXT REFERENCES accounts (id) ON DELETE CASCADE,
    last_seen                 BIGINT NOT NULL,
    connected_at              BIGINT NOT NULL,
    disconnected_at           BIGINT,
    status                    TEXT NOT NULL,
    version                   TEXT NOT NULL DEFAULT '',
    supports_custom_ports     BOOLEAN,
    require_subdomain         BOOLEAN,
    supports_crowdsec         BOOLEAN,
    private                   BOOLEAN,
    supports_private_services BOOLEAN
);
CREATE INDEX proxies_account ON proxies (account_id, cluster_address);
CREATE INDEX proxies_cluster ON proxies (cluster_address);
CREATE INDEX proxies_last_seen ON proxies (last_seen);

CREATE TABLE access_log_entries (
    id               TEXT PRIMARY KEY,
    account_id       TEXT NOT NULL,
    service_id       TEXT NOT NULL,
    timestamp        BIGINT NOT NULL,
    method           TEXT NOT NULL,
    host             TEXT NOT NULL,
    path             TEXT NOT NULL,
    duration         BIGINT NOT NULL,
    status_code      BIGINT NOT NULL,
    source_ip        TEXT NOT NULL DEFAULT '',
    reason           TEXT NOT NULL DEFAULT '',
    user_id          TEXT NOT NULL DEFAULT '',
    auth_method_used TEXT NOT NULL DEFAULT '',
    country_code     TEXT NOT NULL DEFAULT '',
    city_name        TEXT NOT NULL DEFAULT '',
    subdivision_code TEXT NOT NULL DEFAULT '',
    bytes_upload     BIGINT NOT NULL DEFAULT 0,
    bytes_download   BIGINT NOT NULL DEFAULT 0,
    protocol         TEXT NOT NULL DEFAULT '',
    metadata         TEXT NOT NULL DEFAULT '{}',
    agent_network    BOOLEAN NOT NULL DEFAULT FALSE
);
CREATE INDEX access_log_entries_account ON access_log_entries (account_id, timestamp);
CREATE INDEX access_log_entries_service ON access_log_entries (account_id, service_id, timestamp);
CREATE INDEX access_log_entries_age ON access_log_entries (timestamp);
