#include "store/dir/secret.h"

#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

#include "json/codec.h"

static int fold_one(json_t *data, const char *key, const json_t *value, struct error **err)
{
	size_t len = json_string_length(value);
	AUTO_FREE char *text = NULL;

	if (!json_is_string(value))
		return error_set(err, ERROR_PERMANENT, "InvalidObject", "stringData.%s of the Secret is no string (quote it)", key);
	if (len > 1u << 20) /* the API server's own limit of a Secret */
		return error_set(err, ERROR_PERMANENT, "InvalidObject", "stringData.%s of the Secret is larger than 1 MiB", key);
	text = malloc(len / 3 * 4 + 8);
	if (!text)
		return error_set_errno(err, ENOMEM, "cannot read the Secret");
	EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)json_string_value(value), (int)len);
	return json_object_set_new(data, key, json_string(text)) < 0 ? error_set_errno(err, ENOMEM, "cannot read the Secret") : 0;
}

int secret_fold(json_t *object, struct error **err)
{
	const char *kind = json_path_string(object, "kind"), *key;
	AUTO_JSON json_t *data = NULL;
	json_t *value;

	if (!kind || strcmp(kind, "Secret"))
		return 0;
	json_object_foreach (json_object_get(object, "data"), key, value)
		if (!json_is_string(value))
			return error_set(err, ERROR_PERMANENT, "InvalidObject", "data.%s of the Secret is no string (of base64)", key);
	if (!json_object_get(object, "stringData"))
		return 0;
	data = json_object();
	json_object_update(data, json_object_get(object, "data"));
	json_object_foreach (json_object_get(object, "stringData"), key, value)
		if (fold_one(data, key, value, err) < 0)
			return -1;
	json_object_del(object, "stringData");
	return json_object_set(object, "data", data) < 0 ? error_set_errno(err, ENOMEM, "cannot read the Secret") : 0;
}
