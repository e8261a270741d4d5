-- miltertest -D socket=SPEC -s sign.lua: messages of contoso.com over one connection after another. HELO and RCPT are
-- not sent: the milter declines them in the negotiation, and miltertest ends where they come nevertheless.

local function fail(text)
  error(text)
end

local function open(address)
  local conn = mt.connect(socket)
  if conn == nil then fail("mt.connect() failed") end
  if mt.conninfo(conn, "client.example", address) ~= nil then fail("mt.conninfo() failed") end
  if mt.getreply(conn) ~= SMFIR_CONTINUE then fail("unexpected reply to the connection") end
  return conn
end

local function message(conn, from, sender)
  mt.macro(conn, SMFIC_MAIL, "i", "t-sign")
  if mt.mailfrom(conn, sender) ~= nil then fail("mt.mailfrom() failed") end
  if mt.header(conn, "From", from) ~= nil then fail("mt.header(From) failed") end
  if mt.header(conn, "Subject", "x") ~= nil then fail("mt.header(Subject) failed") end
  if mt.eoh(conn) ~= nil then fail("mt.eoh() failed") end
  if mt.bodystring(conn, "hello\r\n") ~= nil then fail("mt.bodystring() failed") end
  if mt.eom(conn) ~= nil then fail("mt.eom() failed") end
  local reply = mt.getreply(conn)
  if reply ~= SMFIR_CONTINUE and reply ~= SMFIR_ACCEPT then fail("unexpected reply to the end: " .. reply) end
  return mt.eom_check(conn, MT_HDRINSERT, "DKIM-Signature")
end

-- A trusted client: signed, message after message, a bounce too.
local conn = open("127.0.0.1")
for _ = 1, 3 do
  if not message(conn, "Joe <joe@contoso.com>", "<joe@contoso.com>") then fail("not signed") end
  if not message(conn, "MAILER-DAEMON@contoso.com", "<>") then fail("a bounce is not signed") end
  if message(conn, "eve@evil.example", "<joe@contoso.com>") then fail("mail of others is signed") end
end
-- A message that is given up leaves nothing behind.
mt.mailfrom(conn, "<joe@contoso.com>")
mt.header(conn, "From", "joe@contoso.com")
if mt.abort(conn) ~= nil then fail("mt.abort() failed") end
if message(conn, "eve@evil.example", "<eve@evil.example>") then fail("a header outlived its message") end
mt.disconnect(conn)

-- Somebody from outside.
conn = open("192.0.2.1")
if message(conn, "Joe <joe@contoso.com>", "<joe@contoso.com>") then fail("mail from outside is signed") end
mt.disconnect(conn)
