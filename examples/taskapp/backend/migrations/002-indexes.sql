CREATE INDEX tasks_open ON tasks (due) WHERE NOT done;
CREATE INDEX tasks_assignee ON tasks (assignee);
