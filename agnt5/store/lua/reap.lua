#!lua flags=allow-oom
-- Queue what a dead host owned; a run that has killed `poison` hosts ends as failed instead.
-- Uses: core claims asks locks budgets ends
-- ARGV: host limit poison error retention
-- Replies: OK reaped left out
local host, owned = ARGV[1], P .. 'owned:' .. ARGV[1]
local ids = redis.call('SRANDMEMBER', owned, ARGV[2])
for _, id in ipairs(ids) do
  redis.call('SREM', owned, id)
  local r = load(id)
  if r and r.host == host and not ENDED[r.status] then
    local key = P .. 'run:' .. id
    local crashes = tonumber(r.crashes or '0')
    -- a run that only waited is no suspect; from the second crash on, only one that ran alone is
    if r.status == 'running' and (crashes < 2 or r.danger) then crashes = crashes + 1 end
    redis.call('RPUSH', P .. 'log:' .. id, entry('{"e":"HostLost","host":"' .. host .. '"}'))
    redis.call('HSET', key, 'host', '', 'epoch', '', 'fin', '', 'crashes', ms(crashes), 'newtry', '1',
      'attempt', ms(r.attempt + 1))
    redis.call('HDEL', key, 'danger')
    r.host, r.epoch = nil, nil
    if crashes >= tonumber(ARGV[3]) then
      r.status = 'running'
      end_run(id, r, 'failed', ARGV[4], ARGV[5])
    else
      enqueue(id, r)
    end
  end
end
return { 'OK', ms(#ids), ms(redis.call('SCARD', owned)), OUT }
