/**
 * Interrupt a kernel through the server, where the kernel receives no messages while a cell runs.
 * @param {string} kernel Its id.
 * @returns {Promise<boolean>} Whether the server accepted it.
 */
export async function interrupt(kernel) {
  const config = JSON.parse(document.getElementById("jupyter-config-data")?.textContent || "{}");
  const xsrf = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/)?.[1] ?? "";
  const headers = { "X-XSRFToken": xsrf, ...(config.token ? { Authorization: `token ${config.token}` } : {}) };
  const url = `${config.baseUrl ?? "/"}api/kernels/${encodeURIComponent(kernel)}/interrupt`;
  const reply = await fetch(url, { method: "POST", headers, credentials: "same-origin" }).catch(() => null);
  return Boolean(reply?.ok);
}
