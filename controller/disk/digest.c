#include "disk/digest.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "disk/digest_tree.h"

static const unsigned char zero_node[DIGEST_SIZE];

static void free_context_p(EVP_MD_CTX **ctx)
{
	EVP_MD_CTX_free(*ctx);
}

bool digest_hash(unsigned char prefix, const void *a, size_t a_len, const void *b, size_t b_len, unsigned char out[DIGEST_SIZE])
{
	CLEANUP(free_context_p) EVP_MD_CTX *ctx = EVP_MD_CTX_new();

	return ctx && EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) && EVP_DigestUpdate(ctx, &prefix, 1) && EVP_DigestUpdate(ctx, a, a_len) &&
	       EVP_DigestUpdate(ctx, b, b_len) && EVP_DigestFinal_ex(ctx, out, NULL);
}

bool digest_all_zero(const void *data, size_t len)
{
	const unsigned char *p = data;

	/* The first bytes decide most cases; then a block equals itself shifted by one word when it is all zero. */
	if (len < 16) {
		for (size_t i = 0; i < len; i++)
			if (p[i])
				return false;
		return true;
	}
	for (size_t i = 0; i < 16; i++)
		if (p[i])
			return false;
	return !memcmp(p, p + 16, len - 16);
}

bool digest_leaf(const void *data, size_t len, unsigned char out[DIGEST_SIZE])
{
	if (!digest_all_zero(data, len))
		return digest_hash(0, data, len, "", 0, out);
	memset(out, 0, DIGEST_SIZE);
	return true;
}

static void combine(struct digest_tree *tree, const unsigned char *left, const unsigned char *right, unsigned char out[DIGEST_SIZE])
{
	unsigned char node[DIGEST_SIZE];

	if (!memcmp(left, zero_node, DIGEST_SIZE) && !memcmp(right, zero_node, DIGEST_SIZE))
		memset(node, 0, DIGEST_SIZE);
	else if (!digest_hash(1, left, DIGEST_SIZE, right, DIGEST_SIZE, node))
		tree->failed = true;
	memcpy(out, node, DIGEST_SIZE);
}

/* Puts in a complete subtree of 2^level leaves. */
static void add_subtree(struct digest_tree *tree, unsigned level, const unsigned char node_in[DIGEST_SIZE])
{
	unsigned char node[DIGEST_SIZE];

	tree->next += UINT64_C(1) << level;
	memcpy(node, node_in, DIGEST_SIZE);
	for (; tree->has[level]; level++) {
		tree->has[level] = false;
		combine(tree, tree->pending[level], node, node);
	}
	memcpy(tree->pending[level], node, DIGEST_SIZE);
	tree->has[level] = true;
}

void digest_tree_add(struct digest_tree *tree, uint64_t index, const unsigned char leaf[DIGEST_SIZE])
{
	while (tree->next < index) {
		/* the largest zero subtree that starts here and does not go beyond */
		unsigned level = 0;

		while (level < 62 && !(tree->next & ((UINT64_C(2) << level) - 1)) && (UINT64_C(2) << level) <= index - tree->next)
			level++;
		add_subtree(tree, level, zero_node);
	}
	add_subtree(tree, 0, leaf);
}

int digest_tree_finish(struct digest_tree *tree, uint64_t capacity, char out[DISK_DIGEST_TEXT_SIZE], struct error **err)
{
	uint64_t leaves = capacity / DISK_DIGEST_BLOCK + (capacity % DISK_DIGEST_BLOCK != 0);
	unsigned char root[DIGEST_SIZE] = { 0 }, size[8], sum[DIGEST_SIZE];
	static const char head[] = "vm-import-controller disk digest v1\n";
	unsigned top = 0;
	bool have = false;

	if (leaves > tree->next)
		digest_tree_add(tree, leaves - 1, zero_node);
	while (top < 63 && (UINT64_C(1) << top) < leaves)
		top++;
	/* From the bottom: a left node without a right sibling gets a zero one, up to the root. */
	for (unsigned level = 0; level <= top; level++) {
		const unsigned char *left = tree->has[level] ? tree->pending[level] : NULL;

		if (left && have)
			combine(tree, left, root, root);
		else if (left && level < top)
			combine(tree, left, zero_node, root);
		else if (left)
			memcpy(root, left, DIGEST_SIZE);
		else if (have && level < top)
			combine(tree, root, zero_node, root);
		have = have || left;
	}
	for (int i = 0; i < 8; i++)
		size[i] = (unsigned char)(capacity >> (56 - 8 * i));
	{
		CLEANUP(free_context_p) EVP_MD_CTX *ctx = EVP_MD_CTX_new();

		if (tree->failed || !ctx || !EVP_DigestInit_ex(ctx, EVP_sha256(), NULL) || !EVP_DigestUpdate(ctx, head, sizeof head - 1) ||
		    !EVP_DigestUpdate(ctx, size, sizeof size) || !EVP_DigestUpdate(ctx, root, sizeof root) ||
		    !EVP_DigestFinal_ex(ctx, sum, NULL))
			return error_set(err, ERROR_TRANSIENT, "DigestFailed", "the hash library failed");
	}
	strcpy(out, "vmid1:");
	for (int i = 0; i < DIGEST_SIZE; i++)
		sprintf(out + 6 + 2 * (size_t)i, "%02x", sum[i]);
	return 0;
}

static int size_of(int fd, const char *path, uint64_t *size, struct error **err)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		return error_set_errno(err, errno, "cannot read %s", path);
	if (S_ISBLK(st.st_mode)) {
		if (ioctl(fd, BLKGETSIZE64, size) < 0)
			return error_set_errno(err, errno, "cannot tell the size of %s", path);
		return 0;
	}
	if (!S_ISREG(st.st_mode))
		return error_set(err, ERROR_PERMANENT, "NotADisk", "%s is neither a file nor a block device", path);
	*size = (uint64_t)st.st_size;
	return 0;
}

/* The start of the block that holds the next data at or after `at`; size when there is none. */
static uint64_t next_data(int fd, uint64_t at, uint64_t size)
{
	off_t data = lseek(fd, (off_t)at, SEEK_DATA);

	if (data < 0)
		return errno == ENXIO ? size : at; /* a device that cannot tell is read whole */
	return (uint64_t)data < at ? at : (uint64_t)data - (uint64_t)data % DISK_DIGEST_BLOCK;
}

int digest_descriptor(int fd, const char *path, uint64_t size, struct cancel *cancel, char out[DISK_DIGEST_TEXT_SIZE], struct error **err)
{
	AUTO_FREE unsigned char *block = malloc(DISK_DIGEST_BLOCK);
	struct digest_tree tree = { 0 };

	if (!block)
		return error_set_errno(err, ENOMEM, "cannot read %s", path);
	for (uint64_t at = 0; (at = next_data(fd, at, size)) < size; at += DISK_DIGEST_BLOCK) {
		size_t want = size - at < DISK_DIGEST_BLOCK ? (size_t)(size - at) : DISK_DIGEST_BLOCK, got = 0;
		unsigned char leaf[DIGEST_SIZE];

		if (cancel_check(cancel, err) < 0)
			return -1;
		while (got < want) {
			ssize_t n = pread(fd, block + got, want - got, (off_t)(at + got));

			if (n < 0 && errno == EINTR)
				continue;
			if (n <= 0)
				return n ? error_set_errno(err, errno, "cannot read %s at %llu", path, (unsigned long long)(at + got))
					 : error_set(err, ERROR_TRANSIENT, "ShortRead", "%s became shorter while it was read", path);
			got += (size_t)n;
		}
		if (!digest_leaf(block, want, leaf))
			tree.failed = true;
		digest_tree_add(&tree, at / DISK_DIGEST_BLOCK, leaf);
	}
	return digest_tree_finish(&tree, size, out, err);
}

int disk_digest_file(const char *path, char out[DISK_DIGEST_TEXT_SIZE], struct error **err)
{
	AUTO_FD int fd = open(path, O_RDONLY | O_CLOEXEC);
	uint64_t size = 0;

	if (fd < 0)
		return error_set_errno(err, errno, "cannot read %s", path);
	return size_of(fd, path, &size, err) < 0 ? -1 : digest_descriptor(fd, path, size, NULL, out, err);
}
