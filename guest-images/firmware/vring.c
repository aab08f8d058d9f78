/*
 * Vrings, device side. What the host writes is looked at once and checked before it is used.
 */
#include "vring.h"

#include "board.h"
#include "doorbell.h"

#define DESCRIPTOR_NEXT 1u
#define DESCRIPTOR_WRITE 2u
#define DESCRIPTOR_INDIRECT 4u
#define NO_INTERRUPT 1u

struct descriptor {
	uint64_t address;
	uint32_t len;
	uint16_t flags, next;
};

struct available {
	uint16_t flags, index, ring[];
};

struct used {
	uint16_t flags, index;
	struct {
		uint32_t id, len;
	} ring[];
};

bool is_shared(uint64_t address, uint64_t len)
{
	return address >= SHARED_START && len <= SHARED_SIZE && address - SHARED_START <= SHARED_SIZE - len;
}

bool vring_attach(struct vring *vring, const struct vring_place *place, uint32_t most)
{
	uint32_t num = place->num, align = place->align;

	if (!num || num & (num - 1) || num > most || !align || align & (align - 1))
		return false;
	if (place->address & (align - 1) || place->notifyid >= BELL_READY)
		return false;
	uint32_t available = 16 * num;
	uint32_t used = (available + 2 * (3 + num) + align - 1) & ~(align - 1);
	if (!is_shared(place->address, used + 6 + 8 * num))
		return false;
	*vring = (struct vring){
		.descriptors = (volatile struct descriptor *)place->address,
		.available = (volatile struct available *)(place->address + available),
		.used = (volatile struct used *)(place->address + used),
		.num = num,
		.notifyid = place->notifyid,
	};
	/* Anything else is a ring that somebody has used already. */
	return vring->used->index == 0;
}

bool vring_has_buffer(const struct vring *vring)
{
	return vring->available->index != vring->next_available;
}

struct buffer vring_take(struct vring *vring, bool writable)
{
	/* What was read of the index comes before what is read of the entry. */
	barrier();
	struct buffer buffer = { .head = vring->available->ring[vring->next_available++ % vring->num] };

	if (buffer.head >= vring->num)
		return buffer;
	volatile struct descriptor *descriptor = &vring->descriptors[buffer.head];
	uint64_t address = descriptor->address;
	uint32_t len = descriptor->len;
	uint32_t flags = descriptor->flags & (DESCRIPTOR_NEXT | DESCRIPTOR_WRITE | DESCRIPTOR_INDIRECT);
	if (flags == (writable ? DESCRIPTOR_WRITE : 0) && is_shared(address, len)) {
		buffer.start = (uint8_t *)(uint32_t)address;
		buffer.len = len;
	}
	return buffer;
}

void vring_give(struct vring *vring, const struct buffer *buffer, uint32_t written)
{
	uint32_t entry = vring->next_used % vring->num;

	vring->used->ring[entry].id = buffer->head;
	vring->used->ring[entry].len = written;
	barrier();
	vring->used->index = ++vring->next_used;
	vring->untold = true;
}

void vring_tell(struct vring *vring)
{
	if (!vring->untold)
		return;
	vring->untold = false;
	/* The index must be out before the flags are read, or both sides wait for the other. */
	barrier();
	if (!(vring->available->flags & NO_INTERRUPT))
		doorbell_ring(vring->notifyid);
}
