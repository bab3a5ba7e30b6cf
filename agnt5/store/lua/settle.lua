#!lua flags=allow-oom
-- Put what was really spent in the place of what a try holds.
-- GONE: its window has passed, the budget was reset, or this very call was applied before (its reply was lost).
-- Uses: core budgets
-- ARGV: scope per nonce requests tokens cost
-- Replies: OK | GONE
local scope, nonce = ARGV[1], ARGV[3]
begin_window(scope, ARGV[2])
local held = redis.call('HGET', P .. 'tries:' .. scope, nonce)
if not held then return { 'GONE' } end
local amounts, op = amounts_of(held)
add(scope, 'held_', '-', amounts)
add(scope, '', '', { ARGV[4], ARGV[5], ARGV[6] })
forget_try(scope, nonce, op)
return { 'OK' }
