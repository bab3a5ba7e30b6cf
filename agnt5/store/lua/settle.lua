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
hold(scope, '-', amounts)
for i, sort in ipairs(SORTS) do
  if ARGV[3 + i] ~= '0' then redis.call('HINCRBY', P .. 'budget:' .. scope, sort, ARGV[3 + i]) end
end
forget_try(scope, nonce, op)
return { 'OK' }
