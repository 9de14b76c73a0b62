-- Which kinds there are is the api's and the workers' to know: each new one would need a migration.
alter table log_drains drop constraint log_drains_kind_check;
