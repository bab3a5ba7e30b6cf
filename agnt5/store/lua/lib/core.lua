-- Part of every script: the shard's prefix, the time, and what a run's record is.
-- KEYS[1] is the shard's prefix 'agnt5:{s<k>}:'. All keys of a shard share its hash tag, so that names may be
-- derived from it here (store/keys.py is their list). Payloads are opaque bytes, only ever concatenated.
local P = KEYS[1]
local TIME = redis.call('TIME')
local NOW = TIME[1] * 1000 + math.floor(TIME[2] / 1000)
local function ms(n) return string.format('%.0f', n) end
local NOW_S = ms(NOW)
local OUT = {}  -- messages that the caller sends: queue, priority, handler, id (flat)
local MAIL = {} -- events of runs which the calling host owns: id, journal length, entry (flat)
local ME = ''   -- the calling host, where there is one
local ENDED = { completed = true, failed = true, cancelled = true }

-- A script reads the fields it needs: each one costs it an argument, a search and a reply.
local ROUTE = { 'status', 'host', 'gen', 'queue', 'priority', 'handler', 'retry' } -- to tell a run something
local ALL = { 'status', 'host', 'epoch', 'op', 'gen', 'queue', 'priority', 'handler', 'kind', 'parent', 'pseq', 'pgen',
  'attempt', 'crashes', 'failures', 'retry', 'started', 'fin', 'finop', 'danger', 'deadline', 'full', 'more', 'told',
  'trouble' }

-- The record of a run as a table, or nil.
local function load(id, fields)
  fields = fields or ALL
  local v = redis.call('HMGET', P .. 'run:' .. id, unpack(fields))
  if not v[1] then return nil end
  local r = {}
  for i, name in ipairs(fields) do r[name] = v[i] or nil end
  return r
end

local function entry(body) return '{"at":' .. NOW_S .. ',' .. string.sub(body, 2) end

-- List a run as claimable and ask the caller for its message.
local function list(id, r)
  local slot = r.queue .. ':' .. r.priority
  redis.call('ZADD', P .. 'queued:' .. slot, NOW_S, id)
  if redis.call('ZCARD', P .. 'queued:' .. slot) == 1 then redis.call('SADD', P .. 'queues', slot) end
  local n = #OUT
  OUT[n + 1], OUT[n + 2], OUT[n + 3], OUT[n + 4] = r.queue, r.priority, r.handler, id
end

-- Make a run claimable.
local function enqueue(id, r)
  redis.call('HSET', P .. 'run:' .. id, 'status', 'queued', 'queued', NOW_S, 'sent', NOW_S, 'sends', '0')
  list(id, r)
end

local function dequeue(id, r) redis.call('ZREM', P .. 'queued:' .. r.queue .. ':' .. r.priority, id) end

-- Append one event and let the run's owner know: by reply, by channel, or by queueing a parked run.
local function tell(id, r, body)
  local e = entry(body)
  local n = redis.call('RPUSH', P .. 'log:' .. id, e)
  if r.host and r.host ~= '' then
    if r.host == ME then
      local m = #MAIL
      MAIL[m + 1], MAIL[m + 2], MAIL[m + 3] = id, n, e
    else
      redis.call('PUBLISH', 'agnt5:host:' .. r.host, id .. '\n' .. n .. '\n' .. e)
    end
  elseif r.status == 'waiting' and not r.retry then
    enqueue(id, r)
  end
end

-- Let beat know when a timer became the earliest of the shard.
local function nudge(member)
  if redis.call('ZRANGE', P .. 'timers', 0, 0)[1] == member then redis.call('PUBLISH', 'agnt5:beat', '1') end
end
