-- Takes captures of `vhost-device-rpmsg capture` apart: the program's own header, the rpmsg header, the name service.
-- The layout is described in backend/docs/capture.md. Goes into Wireshark's folder for personal or global Lua plugins.

local rpmsg = Proto("rpmsg", "Remote Processor Messaging")

local ways = { [0] = "guest to remote", [1] = "remote to guest" }
-- In the order of `Reason::ALL` in backend/src/bridge/counters.rs.
local reasons = {
    [0] = "no",
    "unusable descriptor chain",
    "malformed header",
    "malformed name service message",
    "too many announcements",
    "impossible source address",
    "remote core not running",
    "receive buffer too small",
    "guest too slow",
    "driver went away",
    "for an ended session",
    "remote core lost",
    "not allowed",
}
local kinds = { [0] = "create", [1] = "destroy" }

local f = {
    version = ProtoField.uint8("rpmsg.vm.version", "Version of this header"),
    way = ProtoField.uint8("rpmsg.vm.direction", "Direction", base.DEC, ways),
    slot = ProtoField.uint8("rpmsg.vm.slot", "Slot of the VM"),
    session = ProtoField.uint8("rpmsg.vm.session", "Session of the VM"),
    dropped = ProtoField.uint8("rpmsg.vm.dropped", "Dropped", base.DEC, reasons),
    host = ProtoField.uint32("rpmsg.vm.host_address", "Guest endpoint as the remote knows it", base.HEX),
    guest = ProtoField.uint32("rpmsg.vm.guest_address", "Guest endpoint as the guest knows it", base.HEX),
    src = ProtoField.uint32("rpmsg.src", "Source", base.HEX),
    dst = ProtoField.uint32("rpmsg.dst", "Destination", base.HEX),
    reserved = ProtoField.uint32("rpmsg.reserved", "Reserved", base.HEX),
    len = ProtoField.uint16("rpmsg.len", "Payload length"),
    flags = ProtoField.uint16("rpmsg.flags", "Flags", base.HEX),
    payload = ProtoField.bytes("rpmsg.payload", "Payload"),
    ns_name = ProtoField.stringz("rpmsg.ns.name", "Service"),
    ns_addr = ProtoField.uint32("rpmsg.ns.addr", "Address", base.HEX),
    ns_flags = ProtoField.uint32("rpmsg.ns.flags", "Flags", base.HEX, kinds, 0x1),
}
local fields = {}
for _, field in pairs(f) do
    fields[#fields + 1] = field
end
rpmsg.fields = fields

local cut_short = ProtoExpert.new("rpmsg.cut_short", "The message ends before its header does", expert.group.MALFORMED,
    expert.severity.WARN)
local other_version = ProtoExpert.new("rpmsg.vm.other_version", "Expected version 1 of the header before rpmsg's",
    expert.group.UNDECODED, expert.severity.WARN)
rpmsg.experts = { cut_short, other_version }

local OWN_LEN, HEADER_LEN, ANNOUNCEMENT_LEN, NAME_LEN, NAME_SERVICE = 16, 16, 40, 32, 53

local function announcement(range, tree, pinfo)
    local ns = tree:add(range, "Name service")
    ns:add(f.ns_name, range(0, NAME_LEN))
    ns:add_le(f.ns_addr, range(NAME_LEN, 4))
    ns:add_le(f.ns_flags, range(NAME_LEN + 4, 4))
    local kind = kinds[range(NAME_LEN + 4, 4):le_uint() % 2]
    pinfo.cols.info = string.format("%s %s at 0x%x", kind, range(0, NAME_LEN):stringz(), range(NAME_LEN, 4):le_uint())
end

function rpmsg.dissector(buffer, pinfo, root)
    pinfo.cols.protocol = "RPMSG"
    local tree = root:add(rpmsg, buffer())
    if buffer:len() < OWN_LEN + HEADER_LEN then
        tree:add_proto_expert_info(cut_short)
        return
    end
    local own = tree:add(buffer(0, OWN_LEN), "Virtual machine")
    own:add(f.version, buffer(0, 1))
    if buffer(0, 1):uint() ~= 1 then
        own:add_proto_expert_info(other_version)
        return
    end
    own:add(f.way, buffer(1, 1))
    own:add(f.slot, buffer(2, 1))
    own:add(f.session, buffer(3, 1))
    own:add(f.dropped, buffer(4, 1))
    own:add_le(f.host, buffer(8, 4))
    own:add_le(f.guest, buffer(12, 4))

    local header = buffer(OWN_LEN, HEADER_LEN)
    tree:add_le(f.src, header(0, 4))
    tree:add_le(f.dst, header(4, 4))
    tree:add_le(f.reserved, header(8, 4))
    tree:add_le(f.len, header(12, 2))
    tree:add_le(f.flags, header(14, 2))
    local src, dst = header(0, 4):le_uint(), header(4, 4):le_uint()
    pinfo.cols.src = string.format("0x%x", src)
    pinfo.cols.dst = string.format("0x%x", dst)
    pinfo.cols.info = string.format("0x%x -> 0x%x, %d bytes", src, dst, header(12, 2):le_uint())

    local rest = buffer:len() - OWN_LEN - HEADER_LEN
    if rest > 0 then
        local payload = buffer(OWN_LEN + HEADER_LEN, rest)
        if dst == NAME_SERVICE and rest == ANNOUNCEMENT_LEN then
            announcement(payload, tree, pinfo)
        else
            tree:add(f.payload, payload)
        end
    end
    if buffer(4, 1):uint() ~= 0 then
        local reason = reasons[buffer(4, 1):uint()] or "for another reason"
        pinfo.cols.info:append(", dropped: " .. reason)
    end
end

-- LINKTYPE_USER0
DissectorTable.get("wtap_encap"):add(wtap.USER0, rpmsg)
