"""The tables of the key store, word for word as docs/formats.md has them (a test compares the two).

One reason to change: a column of the key store, in the document first.
"""

from __future__ import annotations

from typing import Final

STORE_DDL: Final = """\
CREATE SCHEMA IF NOT EXISTS pgseal;
CREATE TABLE IF NOT EXISTS pgseal.encryption_keys (
    key_id              bigint PRIMARY KEY CHECK (key_id BETWEEN 1 AND 4294967295),
    tenant              text NOT NULL CHECK (octet_length(tenant) <= 255),
    name                text NOT NULL,
    key_type            text NOT NULL,
    purpose             text NOT NULL CHECK (purpose IN ('data', 'index')),
    version             integer NOT NULL CHECK (version >= 1),
    status              text NOT NULL CHECK (status IN ('PENDING', 'ACTIVE', 'ROTATED', 'INACTIVE', 'EXPIRED',
                                                        'COMPROMISED', 'DESTROYED')),
    algorithm           text NOT NULL,
    kek_alias           text NOT NULL,
    wrapped_dek         bytea,
    parent_key_id       bigint,
    created_at          timestamptz NOT NULL,
    activated_at        timestamptz,
    expires_at          timestamptz,
    rotated_at          timestamptz,
    last_used_at        timestamptz,
    rollback_until      timestamptz,
    compliance_tags     text[] NOT NULL DEFAULT '{}',
    authorised_services text[] NOT NULL DEFAULT '{}',
    access_policy       text,
    correlation_id      text,
    created_by          text NOT NULL,
    changed_by          text NOT NULL,
    epoch               bigint NOT NULL,
    row_mac             bytea NOT NULL,
    UNIQUE (tenant, purpose, key_type, version),
    CHECK (wrapped_dek IS NOT NULL OR status = 'DESTROYED'),
    CHECK (tenant <> '' OR purpose = 'index'),
    CHECK (purpose <> 'index' OR version <= 15)
);
CREATE UNIQUE INDEX IF NOT EXISTS encryption_keys_one_active
    ON pgseal.encryption_keys (tenant, purpose, key_type) WHERE status = 'ACTIVE';
CREATE TABLE IF NOT EXISTS pgseal.key_store_head (
    one                 boolean PRIMARY KEY DEFAULT true CHECK (one),
    realm               bytea NOT NULL CHECK (length(realm) = 16),
    epoch               bigint NOT NULL,
    last_key_id         bigint NOT NULL,
    kek_alias           text NOT NULL,
    wrapped_store_key   bytea NOT NULL,
    head_mac            bytea NOT NULL
);
CREATE TABLE IF NOT EXISTS pgseal.nonce_leases (
    key_id              bigint NOT NULL,
    context             text NOT NULL,
    leased              bigint NOT NULL CHECK (leased BETWEEN 0 AND 4294967296),
    lease_mac           bytea NOT NULL,
    PRIMARY KEY (key_id, context)
);
REVOKE ALL ON SCHEMA pgseal FROM PUBLIC;
REVOKE ALL ON pgseal.encryption_keys, pgseal.key_store_head, pgseal.nonce_leases FROM PUBLIC;
"""
