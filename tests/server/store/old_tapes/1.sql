-- As version 1 made them.
CREATE TABLE tape (schema_version INTEGER NOT NULL, PRIMARY KEY (schema_version));
INSERT INTO tape VALUES (1);
CREATE TABLE sessions (id VARCHAR(200) NOT NULL, created_at FLOAT NOT NULL, PRIMARY KEY (id));
CREATE INDEX sessions_by_time ON sessions (created_at, id);
CREATE TABLE toolsets (digest VARCHAR(64) NOT NULL, tools BLOB NOT NULL, PRIMARY KEY (digest));
CREATE TABLE turns (
  session_id VARCHAR(200) NOT NULL, seq INTEGER NOT NULL, id VARCHAR(64) NOT NULL, parent_id VARCHAR(64),
  created_at FLOAT NOT NULL, dialect VARCHAR(32) NOT NULL, model TEXT NOT NULL, first_message INTEGER NOT NULL,
  tools_digest VARCHAR(64) NOT NULL, options_digest VARCHAR(64) NOT NULL, prompt_delta BLOB NOT NULL,
  completion BLOB NOT NULL, logprobs BLOB NOT NULL, outcome VARCHAR(32) NOT NULL, error TEXT, engine TEXT NOT NULL,
  finish_reason VARCHAR(32), fork_reason TEXT, context_digest BLOB NOT NULL, rest BLOB NOT NULL,
  PRIMARY KEY (session_id, seq), UNIQUE (id), FOREIGN KEY(session_id) REFERENCES sessions (id));
