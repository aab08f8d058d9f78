/*
 * Messages on the two vrings (Linux drivers/rpmsg/virtio_rpmsg_bus.c and rpmsg_ns.c; this is the other side of it).
 *
 * Nothing is queued: a message that needs an answer stays in its vring until there is a buffer for the answer.
 */
#include "rpmsg.h"

#include "services.h"
#include "table.h"
#include "text.h"
#include "vring.h"

#define NAME_SERVICE 53u
#define NAME_SIZE 32u
#define DESTROYED 1u
/* Messages of a turn: bounds the time until the doorbell is looked at again, and is what one kick stands for at most. */
#define BATCH 32u

struct header {
	uint32_t src, dst, reserved;
	uint16_t len, flags;
};

struct announcement {
	char name[NAME_SIZE];
	uint32_t address, flags;
};

static struct vring vrings[VRINGS];
static bool up, name_service;
/* Endpoints that the host has been told of. */
static uint32_t announced;
static uint32_t refused;
/* It is said once of a host that cannot be served. */
static bool complained;

bool rpmsg_send(uint32_t src, uint32_t dst, const void *payload, size_t len)
{
	struct vring *vring = &vrings[TO_HOST];
	struct header header = { .src = src, .dst = dst, .len = (uint16_t)len };

	while (vring_has_buffer(vring)) {
		struct buffer buffer = vring_take(vring, true);
		uint32_t written = 0;

		if (buffer.len >= sizeof(header) + len) {
			memcpy(buffer.start, &header, sizeof(header));
			memcpy(buffer.start + sizeof(header), payload, len);
			written = (uint32_t)(sizeof(header) + len);
		} else {
			refused++;
		}
		vring_give(vring, &buffer, written);
		if (written)
			return true;
	}
	return false;
}

bool rpmsg_is_up(void)
{
	return up;
}

uint32_t rpmsg_refused(void)
{
	return refused;
}

void rpmsg_end(void)
{
	if (!up)
		return;
	up = false;
	services_reset();
	trace_begin("link is down");
	trace_end();
}

void rpmsg_look(void)
{
	const uint32_t most[VRINGS] = { [TO_HOST] = TO_HOST_NUM, [FROM_HOST] = FROM_HOST_NUM };

	if (!table_driver_ok()) {
		complained = false;
		rpmsg_end();
		return;
	}
	if (up || complained)
		return;
	for (uint32_t i = 0; i < VRINGS; i++) {
		struct vring_place place = table_vring(i);

		if (!vring_attach(&vrings[i], &place, most[i])) {
			complained = true;
			trace_begin("vring ");
			trace_decimal(i);
			trace(" cannot be at ");
			trace_hex(place.address);
			trace_end();
			return;
		}
	}
	up = true;
	name_service = table_features() & FEATURE_NAME_SERVICE;
	announced = 0;
	trace_begin("link is up, notifyids ");
	trace_decimal(vrings[TO_HOST].notifyid);
	trace(" and ");
	trace_decimal(vrings[FROM_HOST].notifyid);
	trace_end();
}

static bool announce_next(void)
{
	struct announcement announcement = { .flags = 0 };

	if (!name_service || announced == endpoint_count || !vring_has_buffer(&vrings[TO_HOST]))
		return false;
	const struct endpoint *endpoint = &endpoints[announced];
	struct text name = { announcement.name, 0, NAME_SIZE - 1 };
	put(&name, endpoint->name);
	announcement.address = endpoint->address;
	if (rpmsg_send(endpoint->address, NAME_SERVICE, &announcement, sizeof(announcement)))
		announced++;
	return true;
}

/* The host, or a guest behind it, tells of a service of its own. */
static void hear_announcement(const uint8_t *payload, size_t len)
{
	struct announcement announcement;

	if (len != sizeof(announcement)) {
		refused++;
		return;
	}
	memcpy(&announcement, payload, sizeof(announcement));
	announcement.name[NAME_SIZE - 1] = 0;
	trace_begin(announcement.flags & DESTROYED ? "host withdraws " : "host announces ");
	trace(announcement.name);
	trace(" at ");
	trace_hex(announcement.address);
	trace_end();
}

static const struct endpoint *find(uint32_t address)
{
	for (uint32_t i = 0; i < endpoint_count; i++)
		if (endpoints[i].address == address)
			return &endpoints[i];
	return NULL;
}

static bool receive_next(void)
{
	struct vring *vring = &vrings[FROM_HOST];
	struct header header;

	/* Every message might be one that is answered: which one it is shows only once it is taken. */
	if (!vring_has_buffer(vring) || !vring_has_buffer(&vrings[TO_HOST]))
		return false;
	struct buffer buffer = vring_take(vring, false);
	if (buffer.len >= sizeof(header)) {
		memcpy(&header, buffer.start, sizeof(header));
		const uint8_t *payload = buffer.start + sizeof(header);
		const struct endpoint *endpoint = find(header.dst);

		if (header.len > buffer.len - sizeof(header) || header.len > MAX_PAYLOAD)
			refused++;
		else if (header.dst == NAME_SERVICE)
			hear_announcement(payload, header.len);
		else if (endpoint)
			endpoint->receive(endpoint, header.src, payload, header.len);
		else
			refused++;
	} else {
		refused++;
	}
	vring_give(vring, &buffer, 0);
	return true;
}

bool rpmsg_serve(void)
{
	bool any = false;

	for (uint32_t i = 0; up && i < BATCH; i++) {
		/* One of each in turn, so that none waits for the end of another. */
		bool worked = announce_next();
		worked |= receive_next();
		worked |= services_send_next();
		any |= worked;
		if (!worked)
			break;
	}
	if (any)
		for (uint32_t i = 0; i < VRINGS; i++)
			vring_tell(&vrings[i]);
	return any;
}
