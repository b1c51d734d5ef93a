CREATE TABLE tape (
    schema_version INTEGER NOT NULL, 
    last_finish_number INTEGER DEFAULT 0 NOT NULL, 
    PRIMARY KEY (schema_version)
);
CREATE TABLE sessions (
    id VARCHAR(200) NOT NULL, 
    created_at FLOAT NOT NULL, 
    active_at FLOAT DEFAULT 0 NOT NULL, 
    state VARCHAR(16) DEFAULT 'open' NOT NULL, 
    task_id VARCHAR(200), 
    group_id VARCHAR(200), 
    policy_version VARCHAR(200), 
    metadata JSON DEFAULT '{}' NOT NULL, 
    reward FLOAT, 
    turns INTEGER DEFAULT 0 NOT NULL, 
    next_seq INTEGER DEFAULT 0 NOT NULL, 
    prompt_tokens INTEGER DEFAULT 0 NOT NULL, 
    completion_tokens INTEGER DEFAULT 0 NOT NULL, 
    stored_bytes INTEGER DEFAULT 0 NOT NULL, 
    finished_at FLOAT, 
    finish_number INTEGER, 
    samples INTEGER, 
    sample_tokens INTEGER, 
    sampled_turns INTEGER, 
    sampled_tokens INTEGER, 
    per_turn_tokens INTEGER, 
    freshest INTEGER, 
    lease_id VARCHAR(64), 
    acked_at FLOAT, 
    acked_by VARCHAR(200), 
    PRIMARY KEY (id)
);
CREATE TABLE toolsets (
    digest VARCHAR(64) NOT NULL, 
    tools BLOB NOT NULL, 
    PRIMARY KEY (digest)
);
CREATE TABLE leases (
    id VARCHAR(64) NOT NULL, 
    consumer VARCHAR(200) NOT NULL, 
    created_at FLOAT NOT NULL, 
    expires_at FLOAT NOT NULL, 
    closed_at FLOAT, 
    sessions INTEGER NOT NULL, 
    acked INTEGER DEFAULT 0 NOT NULL, 
    released INTEGER DEFAULT 0 NOT NULL, 
    expired INTEGER DEFAULT 0 NOT NULL, 
    options JSON NOT NULL, 
    PRIMARY KEY (id)
);
CREATE TABLE keys (
    id VARCHAR(32) NOT NULL, 
    role VARCHAR(16) NOT NULL, 
    name VARCHAR(200) NOT NULL, 
    hash VARCHAR(128) NOT NULL, 
    created_at FLOAT NOT NULL, 
    expires_at FLOAT, 
    revoked_at FLOAT, 
    PRIMARY KEY (id), 
    UNIQUE (hash)
);
CREATE TABLE secrets (
    name VARCHAR(64) NOT NULL, 
    value BLOB NOT NULL, 
    created_at FLOAT NOT NULL, 
    PRIMARY KEY (name)
);
CREATE TABLE runs (
    id VARCHAR(32) NOT NULL, 
    host TEXT NOT NULL, 
    pid INTEGER NOT NULL, 
    started_at FLOAT NOT NULL, 
    seen_at FLOAT NOT NULL, 
    stopped_at FLOAT, 
    version TEXT NOT NULL, 
    policy_number INTEGER DEFAULT 0 NOT NULL, 
    policy_error TEXT, 
    policy_told JSON, 
    PRIMARY KEY (id)
);
CREATE TABLE policies (
    number INTEGER NOT NULL, 
    version TEXT, 
    paused VARCHAR(16), 
    timeout FLOAT NOT NULL, 
    changed_at FLOAT NOT NULL, 
    PRIMARY KEY (number)
);
CREATE TABLE turns (
    session_id VARCHAR(200) NOT NULL, 
    seq INTEGER NOT NULL, 
    id VARCHAR(64) NOT NULL, 
    late BOOLEAN DEFAULT 0 NOT NULL, 
    parent_id VARCHAR(64), 
    created_at FLOAT NOT NULL, 
    dialect VARCHAR(32) NOT NULL, 
    model TEXT NOT NULL, 
    outcome VARCHAR(32) NOT NULL, 
    first_message INTEGER NOT NULL, 
    layout BLOB NOT NULL, 
    tools_digest VARCHAR(64) NOT NULL, 
    options_digest VARCHAR(64) NOT NULL, 
    prompt_delta BLOB NOT NULL, 
    completion BLOB NOT NULL, 
    logprobs BLOB NOT NULL, 
    error TEXT, 
    engine TEXT NOT NULL, 
    finish_reason VARCHAR(32), 
    fork_reason TEXT, 
    context_digest BLOB NOT NULL, 
    rest BLOB NOT NULL, 
    PRIMARY KEY (session_id, seq), 
    FOREIGN KEY(session_id) REFERENCES sessions (id), 
    UNIQUE (id)
);
CREATE TABLE token_arrays (
    turn_id VARCHAR(64) NOT NULL, 
    name VARCHAR(64) NOT NULL, 
    session_id VARCHAR(200) NOT NULL, 
    dtype VARCHAR(16) NOT NULL, 
    shape JSON NOT NULL, 
    data BLOB NOT NULL, 
    PRIMARY KEY (turn_id, name), 
    FOREIGN KEY(session_id) REFERENCES sessions (id)
);
CREATE TABLE rewards (
    turn_id VARCHAR(64) NOT NULL, 
    session_id VARCHAR(200) NOT NULL, 
    reward FLOAT, 
    token_rewards BLOB, 
    updated_at FLOAT NOT NULL, 
    PRIMARY KEY (turn_id), 
    FOREIGN KEY(session_id) REFERENCES sessions (id)
);
CREATE TABLE hidden_answers (
    turn_id VARCHAR(64) NOT NULL, 
    session_id VARCHAR(200) NOT NULL, 
    hidden_at FLOAT NOT NULL, 
    PRIMARY KEY (turn_id), 
    FOREIGN KEY(session_id) REFERENCES sessions (id)
);
CREATE INDEX ix_hidden_answers_session_id ON hidden_answers (session_id);
CREATE INDEX ix_rewards_session_id ON rewards (session_id);
CREATE INDEX ix_token_arrays_session_id ON token_arrays (session_id);
CREATE INDEX leases_open ON leases (closed_at, expires_at);
CREATE INDEX sessions_by_group ON sessions (group_id);
CREATE INDEX sessions_by_lease ON sessions (lease_id);
CREATE INDEX sessions_by_task ON sessions (task_id);
CREATE INDEX sessions_by_time ON sessions (created_at, id);
CREATE INDEX sessions_to_lease ON sessions (acked_at, lease_id, finish_number);
CREATE UNIQUE INDEX sessions_by_finish ON sessions (finish_number);
