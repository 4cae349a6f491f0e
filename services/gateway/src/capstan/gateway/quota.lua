-- The quotas of one tenant, the same rules as MemoryQuota in quota.py. Each call is atomic.
--
-- KEYS  1 state (hash): TATs `requests` and `tokens`, `running`, `held`, `month`, `spent`
--       2 leases (sorted set): reservations `replica:number:counted:cost` by the end of their lease
--       3 past (sorted set): reservations whose lease ran out, and charges, by time; kept for a day
-- ARGV  1 operation, 2 time in seconds (tests only, else empty: Redis's), 3 month such as 2026-11, then
--   reserve: 4 reservation, 5 lease s, 6 requests/min, 7 tokens/min, 8 concurrent, 9 budget or empty, 10 tokens
--            -> {0, s ahead of requests, s ahead of tokens, spent, held, month}, or {which quota refuses, s to wait}
--               with 1 concurrency, 2 requests, 3 tokens, 4 budget
--   settle:  4 reservation, 5 seconds to move the TAT of tokens by, 6 cost -> 1, or 0 if it was settled before
--   renew:   4 lease s, 5… reservations -> how many were taken back
--   charge:  4 a name, 5 how many seconds ago it began, 6 and 7 seconds that the TATs of requests and tokens moved
--            since, 8 cost -> 1, or 0 if this name was charged before
local MINUTE, TOLERANCE, STATE_TTL, PAST_TTL = 60, 1e-6, 40 * 86400, 86400
local EPOCH = 1767225600 -- 2026: the smaller the number, the finer its fractions
local state_key, leases, past = KEYS[1], KEYS[2], KEYS[3]
local operation, now, month = ARGV[1], tonumber(ARGV[2]), ARGV[3]
if not now then
  local time = redis.call('TIME')
  now = time[1] - EPOCH + time[2] / 1e6
end

local read = redis.call('HMGET', state_key, 'requests', 'tokens', 'running', 'held', 'month', 'spent')
local requests, tokens = tonumber(read[1] or 0), tonumber(read[2] or 0)
local running, held = tonumber(read[3] or 0), tonumber(read[4] or 0)
local this_month, spent = read[5] or '', tonumber(read[6] or 0)
if month > this_month then
  this_month, spent = month, 0
end

local function save()
  redis.call('HSET', state_key, 'requests', requests, 'tokens', tokens, 'running', running, 'held', held,
    'month', this_month, 'spent', spent)
  redis.call('EXPIRE', state_key, STATE_TTL)
end

local function parts(reservation)
  local counted, cost = string.match(reservation, ':(%d):(%d+)$')
  return tonumber(counted), tonumber(cost)
end

local function release(reservation)
  local counted, cost = parts(reservation)
  running, held = math.max(0, running - counted), math.max(0, held - cost)
end

local function add_past(name)
  redis.call('ZREMRANGEBYSCORE', past, '-inf', now - PAST_TTL)
  local added = redis.call('ZADD', past, 'NX', now, name)
  redis.call('EXPIRE', past, PAST_TTL)
  return added
end

-- A replica that died renews nothing: its places and what it held come back. What it reserved stays used.
local function end_leases()
  local over = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 100)
  for _, reservation in ipairs(over) do
    redis.call('ZREM', leases, reservation)
    release(reservation)
    add_past(reservation)
  end
  if #over > 0 then
    save()
  end
end

local function lease(reservation, seconds)
  local added = redis.call('ZADD', leases, now + seconds, reservation)
  redis.call('EXPIRE', leases, PAST_TTL)
  return added
end

local operations = {}

function operations.reserve()
  end_leases()
  local reservation, seconds = ARGV[4], tonumber(ARGV[5])
  local counted, cost = parts(reservation)
  local latest = now + MINUTE + TOLERANCE
  local requests_tat = math.max(requests, now)
  local tokens_tat = math.max(tokens, now) + tonumber(ARGV[10]) * (MINUTE / tonumber(ARGV[7]))
  if counted == 1 then
    requests_tat = requests_tat + MINUTE / tonumber(ARGV[6])
    if running + 1 > tonumber(ARGV[8]) then
      return { 1, '1' }
    end
    if requests_tat > latest then
      return { 2, string.format('%.17g', requests_tat - now - MINUTE) }
    end
  end
  if tokens_tat > latest then
    return { 3, string.format('%.17g', tokens_tat - now - MINUTE) }
  end
  local budget = tonumber(ARGV[9])
  if budget and spent + held + cost > budget then
    return { 4, spent + cost <= budget and '1' or '' } -- empty: until the month ends
  end
  requests, tokens, running, held = requests_tat, tokens_tat, running + counted, held + cost
  lease(reservation, seconds)
  save()
  return { 0, string.format('%.17g', requests_tat - now), string.format('%.17g', tokens_tat - now), spent, held,
    this_month }
end

function operations.settle()
  local reservation = ARGV[4]
  if redis.call('ZREM', leases, reservation) == 1 then
    release(reservation)
  elseif redis.call('ZREM', past, reservation) == 0 then
    return 0
  end
  tokens = tokens + tonumber(ARGV[5])
  if month == this_month then
    spent = spent + tonumber(ARGV[6])
  end
  save()
  return 1
end

-- Whoever renews is alive and has not settled, so a reservation that is not there any more is taken back.
function operations.renew()
  local seconds, taken_back = tonumber(ARGV[4]), 0
  for i = 5, #ARGV do
    if lease(ARGV[i], seconds) == 1 then
      redis.call('ZREM', past, ARGV[i])
      local counted, cost = parts(ARGV[i])
      running, held, taken_back = running + counted, held + cost, taken_back + 1
    end
  end
  save()
  end_leases()
  return taken_back
end

function operations.charge()
  if add_past(ARGV[4]) == 0 then
    return 0
  end
  local began = now - tonumber(ARGV[5])
  requests = math.max(requests, began) + tonumber(ARGV[6])
  tokens = math.max(tokens, began) + tonumber(ARGV[7])
  if month == this_month then
    spent = spent + tonumber(ARGV[8])
  end
  save()
  return 1
end

return operations[operation]()
