#!lua flags=allow-oom
-- Deliver the shard's due timers, oldest first.
-- Uses: core claims asks locks budgets ends
-- ARGV: limit retention timeout_error
-- Replies: OK fired next_due now out lateness
local due = redis.call('ZRANGEBYSCORE', P .. 'timers', '-inf', NOW_S, 'WITHSCORES', 'LIMIT', 0, ARGV[1])
local late = {}
for i = 1, #due, 2 do
  local member = due[i]
  local sort, id, where = string.match(member, '^(.)|([^|]*)|?(.*)$')
  redis.call('ZREM', P .. 'timers', member)
  late[#late + 1] = ms(NOW - due[i + 1])
  local r = load(id)
  if r and not ENDED[r.status] then
    if sort == 't' then
      redis.call('SREM', P .. 'alarms:' .. id, member)
      local gen, seq = string.match(where, '^(%d+)%.(%d+)$')
      if gen == r.gen then tell(id, r, '{"e":"TimerFired","seq":' .. seq .. '}') end
    elseif sort == 'a' then
      time_out(id, r, where)
    elseif sort == 'r' then
      redis.call('HDEL', P .. 'run:' .. id, 'retry')
      if r.status == 'waiting' and r.host == '' then enqueue(id, r) end
    elseif r.host and r.host ~= '' then
      tell(id, r, '{"e":"CancelRequested","reason":"run timeout","deadline":true}')
    else
      end_run(id, r, 'timeout', ARGV[3], ARGV[2])
    end
  end
end
local first = redis.call('ZRANGE', P .. 'timers', 0, 0, 'WITHSCORES')
return { 'OK', ms(#due / 2), first[2] or '', NOW_S, OUT, late }
