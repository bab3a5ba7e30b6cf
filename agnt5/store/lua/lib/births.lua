-- How runs begin.

-- Write a new run's record and first journal entry.
local function bear(id, handler, kind, queue, priority, body, digest, timeout)
  local key = P .. 'run:' .. id
  -- in the order in which scripts look for them: a small hash is searched from its beginning
  redis.call('HSET', key, 'status', 'queued', 'host', '', 'epoch', '', 'op', '0', 'gen', '0', 'queue', queue,
    'priority', priority, 'handler', handler, 'kind', kind, 'queued', NOW_S, 'sent', NOW_S, 'sends', '0',
    'attempt', '0', 'created', NOW_S, 'digest', digest)
  push(id, entry(body))
  if timeout ~= '' then
    redis.call('HSET', key, 'deadline', ms(NOW + timeout))
    redis.call('ZADD', P .. 'timers', ms(NOW + timeout), 'd|' .. id)
  end
  return { queue = queue, priority = priority, handler = handler }
end

-- Bear a root run or a child, and queue it. `parent`, `pseq`, `pgen`: '' for a root.
local function create_run(id, handler, kind, queue, priority, body, digest, timeout, parent, pseq, pgen)
  local r = bear(id, handler, kind, queue, priority, body, digest, timeout)
  if parent ~= '' then
    redis.call('HSET', P .. 'run:' .. id, 'parent', parent, 'pseq', pseq, 'pgen', pgen)
  else
    redis.call('ZADD', P .. 'open', NOW_S, id)
  end
  list(id, r)
end
