CREATE TABLE tape (
    schema_version BIGSERIAL NOT NULL, 
    last_finish_number BIGINT DEFAULT 0 NOT NULL, 
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
    metadata JSONB DEFAULT '{}' NOT NULL, 
    reward FLOAT, 
    turns BIGINT DEFAULT 0 NOT NULL, 
    next_seq BIGINT DEFAULT 0 NOT NULL, 
    prompt_tokens BIGINT DEFAULT 0 NOT NULL, 
    completion_tokens BIGINT DEFAULT 0 NOT NULL, 
    stored_bytes BIGINT DEFAULT 0 NOT NULL, 
    finished_at FLOAT, 
    finish_number BIGINT, 
    samples BIGINT, 
    sample_tokens BIGINT, 
    sampled_turns BIGINT, 
    sampled_tokens BIGINT, 
    per_turn_tokens BIGINT, 
    freshest BIGINT, 
    lease_id VARCHAR(64), 
    acked_at FLOAT, 
    acked_by VARCHAR(200), 
    PRIMARY KEY (id)
);
CREATE TABLE toolsets (
    digest VARCHAR(64) NOT NULL, 
    tools BYTEA NOT NULL, 
    PRIMARY KEY (digest)
);
CREATE TABLE leases (
    id VARCHAR(64) NOT NULL, 
    consumer VARCHAR(200) NOT NULL, 
    created_at FLOAT NOT NULL, 
    expires_at FLOAT NOT NULL, 
    closed_at FLOAT, 
    sessions BIGINT NOT NULL, 
    acked BIGINT DEFAULT 0 NOT NULL, 
    released BIGINT DEFAULT 0 NOT NULL, 
    expired BIGINT DEFAULT 0 NOT NULL, 
    options JSONB NOT NULL, 
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
    value BYTEA NOT NULL, 
    created_at FLOAT NOT NULL, 
    PRIMARY KEY (name)
);
CREATE TABLE runs (
    id VARCHAR(32) NOT NULL, 
    host TEXT NOT NULL, 
    pid BIGINT NOT NULL, 
    started_at FLOAT NOT NULL, 
    seen_at FLOAT NOT NULL, 
    stopped_at FLOAT, 
    version TEXT NOT NULL, 
    policy_number BIGINT DEFAULT 0 NOT NULL, 
    policy_error TEXT, 
    policy_told JSON, 
    PRIMARY KEY (id)
);
CREATE TABLE policies (
    number BIGINT NOT NULL, 
    version TEXT, 
    paused VARCHAR(16), 
    timeout FLOAT NOT NULL, 
    changed_at FLOAT NOT NULL, 
    PRIMARY KEY (number)
);
CREATE TABLE turns (
    session_id VARCHAR(200) NOT NULL, 
    seq BIGINT NOT NULL, 
    id VARCHAR(64) NOT NULL, 
    late BOOLEAN DEFAULT false NOT NULL, 
    parent_id VARCHAR(64), 
    created_at FLOAT NOT NULL, 
    dialect VARCHAR(32) NOT NULL, 
    model TEXT NOT NULL, 
    outcome VARCHAR(32) NOT NULL, 
    first_message BIGINT NOT NULL, 
    layout BYTEA NOT NULL, 
    tools_digest VARCHAR(64) NOT NULL, 
    options_digest VARCHAR(64) NOT NULL, 
    prompt_delta BYTEA NOT NULL, 
    completion BYTEA NOT NULL, 
    logprobs BYTEA NOT NULL, 
    error TEXT, 
    engine TEXT NOT NULL, 
    finish_reason TEXT, 
    fork_reason TEXT, 
    context_digest BYTEA NOT NULL, 
    rest BYTEA NOT NULL, 
    PRIMARY KEY (session_id, seq), 
    FOREIGN KEY(session_id) REFERENCES sessions (id), 
    UNIQUE (id)
);
CREATE TABLE token_arrays (
    turn_id VARCHAR(64) NOT NULL, 
    name VARCHAR(64) NOT NULL, 
    session_id VARCHAR(200) NOT NULL, 
    dtype VARCHAR(16) NOT NULL, 
    shape JSONB NOT NULL, 
    data BYTEA NOT NULL, 
    PRIMARY KEY (turn_id, name), 
    FOREIGN KEY(session_id) REFERENCES sessions (id)
);
CREATE TABLE rewards (
    turn_id VARCHAR(64) NOT NULL, 
    session_id VARCHAR(200) NOT NULL, 
    reward FLOAT, 
    token_rewards BYTEA, 
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
