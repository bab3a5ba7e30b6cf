#!lua flags=allow-oom
-- Ask a run to end, once per operation id: a request told twice would interrupt the run's clean-up.
-- Uses: core claims asks locks budgets ends
-- ARGV: id reason retention operation
-- Replies: OK status out | GONE | ENDED status
local r = load(ARGV[1])
if not r then return { 'GONE' } end
if r.status == 'cancelled' then return { 'OK', r.status, OUT } end
if ENDED[r.status] then return { 'ENDED', r.status } end
if redis.call('SADD', P .. 'ops:' .. ARGV[1], 'cancel:' .. ARGV[4]) == 0 then return { 'OK', r.status, OUT } end
cancel_run(ARGV[1], ARGV[2], ARGV[3])
return { 'OK', redis.call('HGET', P .. 'run:' .. ARGV[1], 'status'), OUT }
