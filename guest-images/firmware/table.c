/*
 * This table is meant to be awkward, and is all legal: its entries are not in the order of their offsets; the rpmsg
 * device is the second virtio device, so its vrings are numbered from 2 on; the two vrings differ in size, alignment and
 * in who chooses their place; there is an entry of the vendor's, and one that Linux does not know.
 */
#include "table.h"

#include "board.h"

#define ADDRESS_ANY 0xFFFFFFFFu
#define DRIVER_OK 4u
#define PACKED __attribute__((packed))

enum { CARVEOUT = 0, TRACE = 2, VDEV = 3, VENDOR = 128, UNKNOWN = 77 };
enum { VIRTIO_CONSOLE = 3, VIRTIO_RPMSG = 7 };

struct PACKED carveout {
	uint32_t type, da, pa, len, flags, reserved;
	char name[32];
};

struct PACKED trace {
	uint32_t type, da, len, reserved;
	char name[32];
};

struct PACKED vring_entry {
	uint32_t da, align, num, notifyid, pa;
};

struct PACKED vdev {
	uint32_t type, id, notifyid, dfeatures, gfeatures, config_len;
	uint8_t status, num_of_vrings, reserved[2];
	struct vring_entry vrings[VRINGS];
};

struct PACKED console {
	struct vdev vdev;
	uint16_t columns, rows;
	uint32_t ports;
};

struct PACKED vendor {
	uint32_t type;
	uint8_t content[10];
};

#define ENTRIES 8u

struct PACKED table {
	uint32_t version, entries, reserved[2], offsets[ENTRIES];
	struct vendor vendor; /* of 14 bytes, so that what follows is not aligned */
	struct vdev rpmsg;
	struct trace trace;
	struct carveout own, buffers, spare;
	struct console console;
	uint32_t unknown;
};

#define AT(member) (uint32_t)__builtin_offsetof(struct table, member)

/* Volatile, though not const: the host writes into it. */
static volatile struct table table __attribute__((used, section(".resource_table"))) = {
	.version = 1,
	.entries = ENTRIES,
	.offsets = { AT(trace), AT(console), AT(own), AT(vendor), AT(rpmsg), AT(unknown), AT(buffers), AT(spare) },
	.vendor = { VENDOR, "cortex-m3" },
	.unknown = UNKNOWN,
	.trace = { TRACE, 0x21049000, 4096, 0, "cortex-m3" },
	.own = { CARVEOUT, SHARED_START, 0, 256 << 10, 0, 0, "cortex-m3-own" },
	.buffers = { CARVEOUT, ADDRESS_ANY, 0, 128 << 10, 0, 0, "vdev1buffer" },
	.spare = { CARVEOUT, ADDRESS_ANY, 0, 5000, 0, 0, "" },
	.console = {
		.vdev = {
			VDEV, VIRTIO_CONSOLE, 9, 0, 0, 8, 0, VRINGS, { 0 },
			{ { ADDRESS_ANY, 4096, 16, 90, 0 }, { ADDRESS_ANY, 4096, 16, 91, 0 } },
		},
		.columns = 80,
		.rows = 25,
		.ports = 1,
	},
	.rpmsg = {
		VDEV, VIRTIO_RPMSG, 41, FEATURE_NAME_SERVICE, 0, 0, 0, VRINGS, { 0 },
		{
			[TO_HOST] = { ADDRESS_ANY, 64, TO_HOST_NUM, 67, 0 },
			[FROM_HOST] = { 0x21052000, 512, FROM_HOST_NUM, 66, 0 },
		},
	},
};

bool table_driver_ok(void)
{
	bool ok = table.rpmsg.status & DRIVER_OK;

	barrier();
	return ok;
}

uint32_t table_features(void)
{
	return table.rpmsg.gfeatures;
}

struct vring_place table_vring(uint32_t which)
{
	return (struct vring_place){
		.address = table.rpmsg.vrings[which].da,
		.align = table.rpmsg.vrings[which].align,
		.num = table.rpmsg.vrings[which].num,
		.notifyid = table.rpmsg.vrings[which].notifyid,
	};
}
