/**
 * A kernel that hears no messages while a cell runs is interrupted through the server.
 * @param {string} kernel Its id.
 * @returns {Promise<boolean>} Whether the server did it.
 */
export async function interrupt(kernel) {
  const config = JSON.parse(document.getElementById("jupyter-config-data")?.textContent || "{}");
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1] ?? "";
  const headers = { "X-XSRFToken": xsrf, ...(config.token ? { Authorization: `token ${config.token}` } : {}) };
  const url = `${config.baseUrl ?? "/"}api/kernels/${encodeURIComponent(kernel)}/interrupt`;
  const reply = await fetch(url, { method: "POST", headers, credentials: "same-origin" }).catch(() => null);
  return Boolean(reply?.ok);
}
