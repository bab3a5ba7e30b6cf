#!lua flags=allow-oom
-- Forget what a budget has counted, and what calls on their way hold of it.
-- Uses: core budgets
-- ARGV: scope
-- Replies: OK | NONE
return { drop_budget(ARGV[1]) == 1 and 'OK' or 'NONE' }
