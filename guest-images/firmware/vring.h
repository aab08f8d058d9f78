/*
 * The device's side of a split virtqueue in the placement of vring_init() (Linux include/uapi/linux/virtio_ring.h).
 */
#ifndef VRING_H
#define VRING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "table.h"

struct vring {
	volatile struct descriptor *descriptors;
	volatile struct available *available;
	volatile struct used *used;
	uint32_t num;
	uint32_t notifyid;
	uint16_t next_available;
	uint16_t next_used;
	/* Used entries have been added that the host has not been told of. */
	bool untold;
};

/* A buffer that the host has made available. */
struct buffer {
	uint16_t head;
	uint8_t *start;
	/* Bytes; 0 where the descriptor is not one buffer of the right direction in shared memory. */
	size_t len;
};

/* Whether the memory that the host sees holds these bytes. */
bool is_shared(uint64_t address, uint64_t len);

/* Finds a vring where the host says that it is; false where that cannot be. */
bool vring_attach(struct vring *vring, const struct vring_place *place, uint32_t most);

bool vring_has_buffer(const struct vring *vring);

/* Takes the next buffer, which is for the core to write or to read. There must be one. */
struct buffer vring_take(struct vring *vring, bool writable);

/* Gives a buffer back with so many bytes written. */
void vring_give(struct vring *vring, const struct buffer *buffer, uint32_t written);

/* Rings for what was given back, unless the host does not want to hear of it. */
void vring_tell(struct vring *vring);

#endif
