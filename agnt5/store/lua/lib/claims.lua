-- How a host becomes the owner of a run.

-- What taking a run needs to know of it.
local CLAIM = { 'status', 'host', 'epoch', 'gen', 'queue', 'priority', 'handler', 'queued', 'attempt', 'started', 'claims',
  'seen', 'failures', 'crashes', 'newtry', 'out' }

-- What an earlier claim yielded is void with the next one, whether that yields anything or not: readers are told.
local function void_stream(id, count)
  redis.call('UNLINK', P .. 'out:' .. id)
  redis.call('HSET', P .. 'run:' .. id, 'out', count .. '-0')
  redis.call('PUBLISH', 'agnt5:out:' .. id, count .. '-0')
end

-- Make a host the owner; gives the epoch. lock: 'held', or nothing where the run's place does not change.
local function take(id, r, host, nonce, kind, lock)
  local key, count = P .. 'run:' .. id, ms((r.claims or 0) + 1)
  local epoch = count .. ':' .. nonce
  redis.call('HSET', key, 'status', 'running', 'host', host, 'epoch', epoch, 'op', '0', 'kind', kind,
    'full', '', 'more', '', 'claims', count, 'started', r.started or NOW_S, unpack(lock and { 'lock', lock } or {}))
  redis.call('SADD', P .. 'owned:' .. host, id)
  if r.out then void_stream(id, count) end
  if r.newtry then
    redis.call('HDEL', key, 'newtry')
    redis.call('RPUSH', P .. 'log:' .. id, entry('{"e":"AttemptStarted","attempt":' .. r.attempt .. ',"host":"' .. host
      .. '"}'))
  end
  return epoch
end

-- What the owner is told: the run, with the first `page` entries of its journal.
local function claimed(id, r, epoch, page)
  local log = P .. 'log:' .. id
  local entries = redis.call('LRANGE', log, 0, page - 1)
  local length = #entries < page and #entries or redis.call('LLEN', log)
  return { 'CLAIMED', epoch, r.attempt, r.failures or '0', r.crashes or '0', r.gen, r.seen or '0', ms(length), r.queued,
    NOW_S, entries }
end
