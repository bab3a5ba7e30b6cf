#!lua
-- Create a root run, once per id.
-- Uses: core births
-- ARGV: id handler kind queue priority body digest timeout
-- Replies: CREATED now out | EXISTS status | DUPLICATE handler
local id, handler, digest = ARGV[1], ARGV[2], ARGV[7]
local old = redis.call('HMGET', P .. 'run:' .. id, 'status', 'digest', 'handler')
if old[1] then
  if old[2] == digest and old[3] == handler then return { 'EXISTS', old[1] } end
  return { 'DUPLICATE', old[3] }
end
create_run(id, handler, ARGV[3], ARGV[4], ARGV[5], ARGV[6], digest, ARGV[8], '', '', '')
return { 'CREATED', NOW_S, OUT }
