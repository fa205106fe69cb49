import { useState } from "preact/hooks";
import { announce, notify } from "../state/notices";
import { copyText } from "./clipboard";
import { IconButton } from "./icon-button";
import { Check, Copy } from "./icons";

/** How long the button shows that the text was copied, in milliseconds. */
const CONFIRMATION = 1_600;

export function CopyButton({ text, label }: { text: () => string; label: string }) {
	const [isCopied, setCopied] = useState(false);
	const copy = async () => {
		if (!(await copyText(text()))) {
			notify("The browser does not let this page copy. Select the text and copy it by hand.", {
				tone: "error",
			});
			return;
		}
		setCopied(true);
		announce("Copied.");
		setTimeout(() => setCopied(false), CONFIRMATION);
	};
	return (
		<IconButton label={label} onClick={() => void copy()}>
			{isCopied ? <Check size={16} /> : <Copy size={16} />}
		</IconButton>
	);
}
