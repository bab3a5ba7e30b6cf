#!lua flags=allow-oom
-- End a run: result, the parent's completion, its wake-up and the expiry are one step.
-- status: completed, failed, timeout (failed, its children are cancelled) or cancelled
-- Uses: core fence claims asks locks budgets ends
-- ARGV: id epoch op host status payload retention
-- Replies: OK now out mail | AGAIN length | STALE status | GAP op
local id, epoch, op = ARGV[1], ARGV[2], tonumber(ARGV[3])
ME = ARGV[4]
local r = load(id, { 'status', 'host', 'epoch', 'op', 'gen', 'parent', 'pseq', 'pgen', 'fin', 'finop', 'deadline',
  'asks' })
local refused = fence(id, r, epoch, op)
if refused then return refused end
r.op = ARGV[3]
end_run(id, r, ARGV[5], ARGV[6], ARGV[7])
return { 'OK', NOW_S, OUT, MAIL }
