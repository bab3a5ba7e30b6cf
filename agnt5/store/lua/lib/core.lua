-- Part of every script: the shard's prefix, the time, and what a run's record is.
-- KEYS[1] is the shard's prefix 'agnt5:{s<k>}:'. All keys of a shard share its hash tag, so that names may be
-- derived from it here (store/keys.py is their list). Payloads are opaque bytes, only ever concatenated.
local P = KEYS[1]
local TIME = redis.call('TIME')
local NOW = TIME[1] * 1000 + math.floor(TIME[2] / 1000)
local function ms(n) return string.format('%.0f', n) end
local NOW_S = ms(NOW)
local OUT = {}  -- messages that the caller sends: queue, priority, handler, id (flat)
local MAIL = {} -- events of runs which the calling host owns: id, generation, journal length, entry (flat)
local ME = ''   -- the calling host, where there is one
local ENDED = { completed = true, failed = true, cancelled = true }

-- A script reads the fields it needs: each one costs it an argument, a search and a reply.
local ROUTE = { 'status', 'host', 'gen', 'queue', 'priority', 'handler', 'retry' } -- to tell a run something
local ALL = { 'status', 'host', 'epoch', 'op', 'gen', 'queue', 'priority', 'handler', 'kind', 'parent', 'pseq', 'pgen',
  'attempt', 'crashes', 'failures', 'retry', 'started', 'fin', 'finop', 'danger', 'deadline', 'full', 'more', 'told',
  'trouble', 'asks' }

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

-- Send the message "look at run X", or ask the caller to.
local POSTS = false -- made true where the broker is this very database; the text is that of runtime/dispatch.py
local function send(id, r)
  if not POSTS then
    local n = #OUT
    OUT[n + 1], OUT[n + 2], OUT[n + 3], OUT[n + 4] = r.queue, r.priority, r.handler, id
    return
  end
  local priority = tonumber(r.priority)
  local step = priority >= 9 and 9 or priority >= 6 and 6 or priority >= 3 and 3 or 0
  local parent = string.match(id, '^(.*)~[^@]') -- what an entity is called by is not in its calls' ids
  redis.call('LPUSH', step == 0 and r.queue or r.queue .. '\6\22' .. step,
    '{"body":"W1tdLCB7fSwgeyJjYWxsYmFja3MiOiBudWxsLCAiZXJyYmFja3MiOiBudWxsLCAiY2hhaW4iOiBudWxsLCAiY2hvcmQiOiBudWxsfV0="'
    .. ',"content-encoding":"utf-8","content-type":"application/json","headers":{"lang":"py","task":"' .. r.handler
    .. '","id":"' .. id .. '","root_id":"' .. (string.match(id, '^[^~]*~@[^~]*') or string.match(id, '^[^~]*'))
    .. '","parent_id":'
    .. (parent and '"' .. parent .. '"' or 'null') .. ',"group":null,"group_index":null,"shadow":null,"eta":null,'
    .. '"expires":null,"retries":0,"timelimit":[null,null],"argsrepr":"()","kwargsrepr":"{}","origin":"agnt5",'
    .. '"ignore_result":true,"replaced_task_nesting":0,"stamped_headers":null,"stamps":{},"agnt5":1},"properties":{'
    .. '"correlation_id":"' .. id .. '","reply_to":"","delivery_mode":2,"delivery_info":{"exchange":"","routing_key":"'
    .. r.queue .. '"},"priority":' .. r.priority .. ',"body_encoding":"base64","delivery_tag":"' .. id .. '/' .. TIME[1]
    .. '.' .. TIME[2] .. '"}}')
end

-- List a run as claimable and have its message sent.
local function list(id, r)
  local slot = r.queue .. ':' .. r.priority
  redis.call('ZADD', P .. 'queued:' .. slot, NOW_S, id)
  if redis.call('ZCARD', P .. 'queued:' .. slot) == 1 then redis.call('SADD', P .. 'queues', slot) end
  send(id, r)
end

-- Make a run claimable.
local function enqueue(id, r)
  redis.call('HSET', P .. 'run:' .. id, 'status', 'queued', 'queued', NOW_S, 'sent', NOW_S, 'sends', '0')
  list(id, r)
end

local function dequeue(id, r) redis.call('ZREM', P .. 'queued:' .. r.queue .. ':' .. r.priority, id) end

-- Append an entry to a journal, and count its bytes. Small ones are not counted: the limit of events bounds them.
local SMALL = 512
local function push(id, e)
  if #e > SMALL then redis.call('HINCRBY', P .. 'run:' .. id, 'bytes', #e) end
  return redis.call('RPUSH', P .. 'log:' .. id, e)
end

-- Append one event and let the run's owner know: by reply, by channel, or by queueing a parked run.
local function tell(id, r, body)
  local e = entry(body)
  local n = push(id, e)
  if r.host and r.host ~= '' then
    if r.host == ME then
      local m = #MAIL
      MAIL[m + 1], MAIL[m + 2], MAIL[m + 3], MAIL[m + 4] = id, r.gen, n, e
    else
      redis.call('PUBLISH', 'agnt5:host:' .. r.host, id .. '\n' .. r.gen .. '\n' .. n .. '\n' .. e)
    end
  elseif r.status == 'waiting' and not r.retry then
    enqueue(id, r)
  end
end

-- Let beat know when a timer became the earliest of the shard.
local function nudge(member)
  if redis.call('ZRANGE', P .. 'timers', 0, 0)[1] == member then redis.call('PUBLISH', 'agnt5:beat', '1') end
end
