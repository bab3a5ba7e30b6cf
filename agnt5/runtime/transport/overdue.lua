#!lua flags=no-writes
-- List the unacknowledged messages whose consumer gave no sign of life for too long, oldest first.
-- KEYS  1 unacked (hash)  2 unacked_index (zset)
-- ARGV  1 prefix of the tags that are renewed  2 seconds for those  3 seconds for all others  4 limit
-- reply {tag, entry or "", ...}
local now = tonumber(redis.call('TIME')[1])
local renewed, lease, patience, limit = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4])
local latest = now - math.min(lease, patience)
local reply, offset, page = {}, 0, 500
while #reply < 2 * limit and offset < 20 * page do
  local found = redis.call('ZRANGE', KEYS[2], '-inf', latest, 'BYSCORE', 'LIMIT', offset, page, 'WITHSCORES')
  for i = 1, #found, 2 do
    local mine = string.sub(found[i], 1, #renewed) == renewed
    if #reply < 2 * limit and tonumber(found[i + 1]) <= now - (mine and lease or patience) then
      reply[#reply + 1] = found[i]
      reply[#reply + 1] = redis.call('HGET', KEYS[1], found[i]) or ''
    end
  end
  if #found < 2 * page then break end
  offset = offset + page
end
return reply
