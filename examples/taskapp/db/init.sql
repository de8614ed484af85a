-- What the database server's owner makes once: a role that owns one database and nothing else. Tables are the back end's.
CREATE ROLE taskapp LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD :'password';
CREATE DATABASE taskapp OWNER taskapp;
REVOKE ALL ON DATABASE taskapp, postgres, template1 FROM PUBLIC;
