/** A frame of a `text/event-stream`. */
export interface Frame {
	id: string | undefined;
	event: string;
	data: string;
}

/**
 * Parses a stream in chunks of any size (HTML Standard, section 9.2). Unlike with `EventSource`, a
 * frame without an id has none.
 */
export function sseParser(onFrame: (frame: Frame) => void): (chunk: string) => void {
	let rest = "";
	let endedByReturn = false;
	let id: string | undefined;
	let event = "";
	let data: string[] = [];
	const line = (text: string) => {
		if (text === "") {
			if (data.length > 0) onFrame({ id, event: event || "message", data: data.join("\n") });
			id = undefined;
			event = "";
			data = [];
			return;
		}
		if (text.startsWith(":")) return;
		const colon = text.indexOf(":");
		const field = colon < 0 ? text : text.slice(0, colon);
		const value = colon < 0 ? "" : text.slice(text[colon + 1] === " " ? colon + 2 : colon + 1);
		if (field === "data") data.push(value);
		else if (field === "event") event = value;
		else if (field === "id") id = value;
	};
	return (chunk) => {
		const text = rest + (endedByReturn && chunk.startsWith("\n") ? chunk.slice(1) : chunk);
		if (chunk !== "") endedByReturn = false;
		let start = 0;
		for (let at = 0; at < text.length; at++) {
			const char = text[at];
			if (char !== "\n" && char !== "\r") continue;
			line(text.slice(start, at));
			if (char === "\r" && at + 1 === text.length) endedByReturn = true;
			else if (char === "\r" && text[at + 1] === "\n") at++;
			start = at + 1;
		}
		rest = text.slice(start);
	};
}
