let unloading = false;

/**
 * Whether the browser is leaving this page. It then aborts the page's requests, some time before it
 * hides the page; such an abort says nothing about the server.
 */
export const isUnloading = () => unloading;

export function watchUnloading() {
	addEventListener("beforeunload", () => {
		unloading = true;
	});
	addEventListener("pageshow", () => {
		unloading = false;
	});
}
