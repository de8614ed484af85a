CREATE TABLE users (
    id serial PRIMARY KEY,
    name text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 80)
);

CREATE TABLE tasks (
    id serial PRIMARY KEY,
    title text NOT NULL CHECK (length(title) BETWEEN 1 AND 200),
    notes text NOT NULL DEFAULT '',
    due date,
    done boolean NOT NULL DEFAULT false,
    assignee integer REFERENCES users ON DELETE SET NULL,
    version integer NOT NULL DEFAULT 1,
    created timestamptz NOT NULL DEFAULT now()
);
