#!lua flags=allow-oom
-- Acknowledge a batch, then move up to `want` messages from the queues to the unacknowledged ones.
-- One script, so that a message is at every instant in a queue or in `unacked`, whoever is killed.
-- allow-oom: it frees what is acknowledged and moves the rest, so a full server can still be drained.
-- Finding the queues empty, it reads them, so that the server tells this client when one changes (CLIENT TRACKING).
-- KEYS  1 unacked (hash)  2 unacked_index (zset)  3.. queues, most urgent first
-- ARGV  1 tag prefix, new for each pull  2 want  3 "1" if this very pull was sent before and its reply is unknown
--       4 number of acknowledged tags a  5..4+a those tags  5+a.. for each queue the text that ends its entry
-- reply {"fresh", queue index (0-based), message, ...}: message i has the tag prefix .. i
--       {"again", i, entry, ...}: what the earlier, unanswered sending of this pull moved
local unacked, index = KEYS[1], KEYS[2]
local prefix, want, acked = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[4])

for first = 5, 4 + acked, 1000 do
  local last = math.min(first + 999, 4 + acked)
  redis.call('HDEL', unacked, unpack(ARGV, first, last))
  redis.call('ZREM', index, unpack(ARGV, first, last))
end
if want == 0 then return {'fresh'} end

if ARGV[3] == '1' then
  local reply = {'again'}
  for i = 1, want do
    local entry = redis.call('HGET', unacked, prefix .. i)
    if entry then
      reply[#reply + 1] = i
      reply[#reply + 1] = entry
    end
  end
  if #reply > 1 then return reply end
end

-- also the read that has the server tell this client of a change, where all are empty
if redis.call('EXISTS', unpack(KEYS, 3)) == 0 then return {'fresh'} end

local clock = redis.call('TIME')
local score = clock[1] .. '.' .. string.format('%06d', tonumber(clock[2]))
local reply, entries, scores, count = {'fresh'}, {}, {}, 0
for k = 3, #KEYS do
  if count == want then break end
  for _, message in ipairs(redis.call('RPOP', KEYS[k], want - count) or {}) do
    count = count + 1
    local tag = prefix .. count
    reply[2 * count], reply[2 * count + 1] = k - 3, message
    entries[2 * count - 1], entries[2 * count] = tag, '[' .. message .. ARGV[2 + acked + k]
    scores[2 * count - 1], scores[2 * count] = score, tag
  end
end
for first = 1, #entries, 1000 do
  local last = math.min(first + 999, #entries)
  redis.call('HSET', unacked, unpack(entries, first, last))
  redis.call('ZADD', index, unpack(scores, first, last))
end
if count < want then
  redis.call('EXISTS', unpack(KEYS, 3))
end
return reply
