import { dismiss, type Notice, notices } from "../state/notices";
import { IconButton } from "./icon-button";
import { Cross } from "./icons";

function Toast({ notice }: { notice: Notice }) {
	const { id, text, tone, action } = notice;
	const runAction = () => {
		action?.run();
		dismiss(id);
	};
	return (
		<div class={`toast ${tone}`} role={tone === "error" ? "alert" : "status"}>
			<span title={text}>{text}</span>
			{action && (
				<button type="button" class="toast-action" onClick={runAction}>
					{action.label}
				</button>
			)}
			<IconButton label="Dismiss" onClick={() => dismiss(id)}>
				<Cross size={15} />
			</IconButton>
		</div>
	);
}

/** The notices over the conversation. */
export const Toasts = () => (
	<div class="toasts">
		{notices.value.map((notice) => (
			<Toast key={notice.id} notice={notice} />
		))}
	</div>
);
